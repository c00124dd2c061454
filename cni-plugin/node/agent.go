// Package node is the agent that runs on every node: it keeps the CNI plugin
// installed and chained into the container runtime's configuration, and sees to
// it that every injected pod of its node has the rules of its redirect spec,
// whoever started it and however.
//
// One loop does everything. Whatever happens - a file changes, a pod appears, a
// sandbox gets its network, time passes - leads to one pass over files and pods
// that compares what is with what should be.
package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/fsnotify/fsnotify"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/events"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

const (
	// settle is how long changes are collected before a pass, long enough for a
	// file to be written whole.
	settle = 100 * time.Millisecond
	// A pass that failed is tried again after firstRetry, then twice as late
	// each time up to lastRetry.
	firstRetry = time.Second
	lastRetry  = 30 * time.Second
	// lastAnswers is how long an agent that stops waits for whoever still asks it.
	lastAnswers = 2 * time.Second
)

// Agent is one run on one node.
type Agent struct {
	config    Config
	client    kubernetes.Interface
	log       *slog.Logger
	pods      cache.SharedIndexInformer
	events    events.EventBroadcaster
	installer *installer
	repairer  *repairer
	addOns    addOnReader
	reporter  reporter
	metrics   *metrics
	health    health
	// wake has an element when something happened since the last pass.
	wake chan struct{}
	// later wakes it when a contest is on, of whose pauses no event tells.
	later *time.Timer
	// reports is where plugins report; empty for nowhere.
	reports string
	// now is the time by which a contest goes.
	now func() time.Time
	// sawDaemonSet says that the API server once showed us our DaemonSet.
	sawDaemonSet atomic.Bool
}

// New makes an agent of a valid configuration.
func New(c Config, client kubernetes.Interface, log *slog.Logger) *Agent {
	host := apply.Host{Root: c.HostRoot, PassedOver: func(backend string, err error) {
		log.Warn("back end does not work on this node", "backend", backend, "error", err)
	}}
	a := newAgent(c, client, log, host.In, host.Resolve)
	a.repairer.removeOthers = host.RemoveOthers
	a.addOns.get = getFrom(client)
	a.reports = plugin.ReportSocket
	return a
}

func newAgent(c Config, client kubernetes.Interface, log *slog.Logger, in inFunc, resolve func(string) (string, error)) *Agent {
	m := newMetrics()
	broadcaster := events.NewBroadcaster(&events.EventSinkImpl{Interface: client.EventsV1()})
	tell := reporter{broadcaster.NewRecorder(scheme.Scheme, "traffic-node")}
	a := &Agent{
		config:   c,
		client:   client,
		log:      log,
		pods:     newPodInformer(client, c.NodeName),
		events:   broadcaster,
		reporter: tell,
		metrics:  m,
		addOns:   addOnReader{confDir: c.ConfDir, ciliumNamespace: c.CiliumNamespace},
		health:   health{ready: errors.New("starting")},
		wake:     make(chan struct{}, 1),
		now:      time.Now,
		installer: &installer{
			confDir: c.ConfDir, binDir: c.BinDir, source: c.Plugin,
			configured: c.Backend, strictStatus: c.StrictStatus, resolve: resolve, boot: bootID(),
			contest: newContest(),
			metrics: m, log: log,
		},
		repairer: &repairer{
			in: in, removeOthers: func(apply.Backend, ns.NetNS) error { return nil }, cacheDir: c.CacheDir, netnsDir: c.NetnsDir,
			connect: connectProbe{
				service: c.Service, target: connectTarget, node: nodeReference(c.NodeName),
				reporter: tell, metrics: m, log: log,
			},
			reporter: tell, metrics: m, log: log,
		},
	}
	a.later = time.AfterFunc(time.Hour, a.poke)
	a.later.Stop()
	return a
}

// Run works until ctx ends, and then cleans the node up if that is an uninstall.
func (a *Agent) Run(ctx context.Context) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", a.config.Listen)
	if err != nil {
		return fmt.Errorf("listen for probes and metrics: %w", err)
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return errors.Join(fmt.Errorf("watch files: %w", err), listener.Close())
	}
	defer watcher.Close()
	defer a.events.Shutdown()
	if err := removeLeftovers(a.config.ConfDir, a.config.BinDir); err != nil {
		a.log.Warn("cannot remove what an interrupted write left behind", "error", err)
	}
	if err := a.watchPods(); err != nil {
		return errors.Join(err, listener.Close())
	}

	g, ctx := errgroup.WithContext(ctx)
	server := &http.Server{Handler: a.handler(), ReadHeaderTimeout: 10 * time.Second}
	g.Go(func() error { return serve(server, listener) })
	g.Go(func() error { a.pods.RunWithContext(ctx); return nil })
	g.Go(func() error { a.awaitPods(ctx); return nil })
	g.Go(func() error { a.watchReports(ctx); return nil })
	g.Go(func() error { a.watchAddOn(ctx); return nil })
	g.Go(func() error { a.awaitDaemonSet(ctx); return nil })
	g.Go(func() error { return a.events.StartRecordingToSinkWithContext(ctx) })
	g.Go(func() error {
		a.loop(ctx, watcher)
		// What follows must still be done when ctx has ended.
		err := a.leave(context.WithoutCancel(ctx))
		return errors.Join(err, shutdown(server, lastAnswers))
	})
	return g.Wait()
}

func serve(s *http.Server, l net.Listener) error {
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve probes and metrics: %w", err)
	}
	return nil
}

// shutdown closes the server once it has given its answers, at the latest after
// grace: a client that never ends must not keep the agent from stopping.
func shutdown(s *http.Server, grace time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	err := s.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		return s.Close()
	}
	return err
}

// loop makes a pass after every event, at every interval, and again after a
// failure, until ctx ends.
func (a *Agent) loop(ctx context.Context, watcher *fsnotify.Watcher) {
	interval := time.NewTicker(a.config.VerifyInterval)
	defer interval.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	all, soon, retry := true, true, firstRetry
	schedule := func() {
		if !soon {
			soon = true
			next.Reset(settle)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.wake:
			schedule()
		case event := <-watcher.Events:
			if !isTemporary(event.Name) {
				schedule()
			}
		case err := <-watcher.Errors:
			a.log.Warn("missed changes of files; everything is looked at", "error", err)
			all = true
			schedule()
		case <-interval.C:
			all = true
			schedule()
		case <-next.C:
			soon = false
			if err := a.pass(watcher, all); err != nil {
				a.log.Error("not everything is in order", "error", err, "retry", retry)
				next.Reset(retry)
				retry = min(2*retry, lastRetry)
				continue
			}
			all, retry = false, firstRetry
		}
	}
}

// pass compares everything that is with what should be, once, and mends it.
func (a *Agent) pass(watcher *fsnotify.Watcher, all bool) error {
	start := time.Now()
	a.health.begin(start)
	watchErr := a.watchFiles(watcher)
	rewritten, installErr := a.install(a.now())
	ready := errors.Join(installErr, a.installer.contest.err())
	var podErr error
	switch {
	case !a.pods.HasSynced():
		ready = errors.Join(ready, errors.New("the pods of this node are not listed yet"))
	case a.installer.backend != "":
		// A configuration without our entry may have started pods.
		podErr = a.repairer.pass(a.nodePods(), a.installer.backend, all || rewritten)
	}
	a.health.end(ready)
	a.metrics.ready.Set(0)
	if ready == nil {
		a.metrics.ready.Set(1)
	}
	a.metrics.seconds.Observe(time.Since(start).Seconds())
	return errors.Join(watchErr, installErr, podErr)
}

// install keeps the plugin where it is run, and tells of a contest about that.
func (a *Agent) install(now time.Time) (rewritten bool, err error) {
	contest := &a.installer.contest
	was := contest.on
	rewritten, err = a.installer.pass(now)
	a.later.Stop()
	if wait := contest.wait(now); wait > 0 && err == nil { // what failed is tried again anyhow, later each time
		a.later.Reset(wait)
	}
	node := nodeReference(a.config.NodeName)
	switch {
	case contest.on && !was:
		a.log.Warn("another program undoes what is written", "error", contest.err())
		a.reporter.event(node, corev1.EventTypeWarning, reasonContested, "Install", contest.err().Error())
	case was && !contest.on:
		a.log.Info("the CNI configuration stays as it was written", "path", contest.path)
		a.reporter.event(node, corev1.EventTypeNormal, reasonSettled, "Install", fmt.Sprintf("CNI configuration %s keeps our entry again", contest.path))
	}
	return rewritten, err
}

// watchFiles watches the folders, those that were made anew since too.
func (a *Agent) watchFiles(watcher *fsnotify.Watcher) error {
	results := filepath.Join(a.config.CacheDir, "results")
	if _, err := os.Stat(results); err != nil {
		results = a.config.CacheDir // the first pod makes it
	}
	var errs []error
	for _, dir := range []string{a.config.ConfDir, a.config.BinDir, results} {
		if err := watcher.Add(dir); err != nil {
			errs = append(errs, fmt.Errorf("watch %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
