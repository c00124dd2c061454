package watch

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A Publisher takes updates to proxies, as serve.Server does.
type Publisher interface {
	// Publish does not wait for proxies. It calls applied once, when every proxy that the update concerns has applied
	// it, refused it or gone.
	Publish(update envoy.Update, applied func(Applied))
}

// Applied says how an update ended at the proxies that it concerned.
type Applied struct {
	// Proxies is Acknowledged + Rejected + Gone + Late.
	Proxies, Acknowledged, Rejected, Gone, Late int
	// Took is the time from Publish to the last answer.
	Took time.Duration
}

// A Reporter tells the owner of an object what is wrong with it.
type Reporter interface {
	// Report has all problems of an object; none if they are fixed. It does not block.
	Report(object mesh.Object, problems []label.Problem)
}

// Config is what a Watcher connects.
type Config struct {
	Source *Source
	// Mesh and Translator make of objects what is published.
	Mesh       mesh.Config
	Translator *envoy.Translator
	Publisher  Publisher
	// Gateway is nil where there is none.
	Gateway    *GatewayConfig
	Reporter   Reporter
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A Watcher keeps what is published as the Kubernetes API has it.
type Watcher struct {
	source *Source
	log    *slog.Logger

	// One goroutine owns these.
	model    model
	snapshot *envoy.Snapshot
	gateway  *GatewayConfig
	// untranslated has the problems of objects with ports that could not be translated.
	untranslated map[mesh.Object][]label.Problem
	// gatewayFailures has those of what could not be translated for the gateway.
	gatewayFailures map[mesh.Object][]label.Problem
	// problems has all that were reported.
	problems map[mesh.Object][]label.Problem

	publisher Publisher
	reporter  Reporter
	metrics   *metrics
	ready     atomic.Bool
}

// New returns a Watcher that has not begun.
func New(c Config) (*Watcher, error) {
	m, err := newMetrics(c.Registerer)
	if err != nil {
		return nil, err
	}
	w := &Watcher{
		source:       c.Source,
		log:          c.Logger,
		model:        model{Mesh: mesh.New(c.Mesh)},
		gateway:      c.Gateway,
		snapshot:     envoy.NewSnapshot(c.Translator),
		untranslated: map[mesh.Object][]label.Problem{},
		problems:     map[mesh.Object][]label.Problem{},
		publisher:    c.Publisher,
		reporter:     c.Reporter,
		metrics:      m,
	}
	if c.Gateway != nil {
		w.model.gateway, w.model.resources = ingress.New(c.Gateway.Model), c.Gateway.Resources
	}
	return w, nil
}

// Run watches and publishes until ctx ends. The first update has everything that there was; an empty one if nothing is
// open, because proxies wait for it.
func (w *Watcher) Run(ctx context.Context) {
	began := time.Now()
	defer w.source.stop()
	if !w.source.start(ctx) {
		return
	}
	w.first(began)
	for {
		alarm, stop := w.alarm()
		select {
		case <-ctx.Done():
			stop()
			return
		case <-w.source.queue.some:
		case <-alarm:
		}
		stop()
		w.next()
	}
}

// Ready reports whether everything that there was at the start is published.
func (w *Watcher) Ready() bool { return w.ready.Load() }

// updates are what changed for proxies of each kind.
type updates struct{ sidecars, gateway envoy.Update }

// first publishes what there is.
func (w *Watcher) first(began time.Time) {
	changes, _ := w.fold()
	u := w.translate(changes)
	w.publisher.Publish(u.sidecars, func(Applied) {})
	if w.gateway != nil {
		w.gateway.Publisher.Publish(u.gateway, func(Applied) {})
	}
	w.ready.Store(true)
	w.log.Info("published all there is", "services", len(changes.Ports), "resources", len(u.sidecars.Set),
		"hosts", len(changes.gateway.Hosts), "gateway_resources", len(u.gateway.Set),
		"objects_with_problems", len(changes.Problems)+len(changes.gateway.Problems), "took", short(time.Since(began)))
}

// next publishes what has changed since.
func (w *Watcher) next() {
	changes, since := w.fold()
	u := w.translate(changes)
	w.publish(u, w.changeLogger(changes.Labels, u, since))
}

// publish calls applied once, for all proxies together.
func (w *Watcher) publish(u updates, applied func(Applied)) {
	type part struct {
		envoy.Update
		to Publisher
	}
	var parts []part
	if len(u.sidecars.Set)+len(u.sidecars.Remove) > 0 {
		parts = append(parts, part{u.sidecars, w.publisher})
	}
	if len(u.gateway.Set)+len(u.gateway.Remove) > 0 {
		parts = append(parts, part{u.gateway, w.gateway.Publisher})
	}
	if len(parts) == 0 {
		applied(Applied{})
		return
	}
	together := gather(len(parts), applied)
	for _, p := range parts {
		w.log.Debug("publish", "set", setKeys(p.Set), "remove", p.Remove)
		p.to.Publish(p.Update, together)
	}
}

// gather returns what is to be called n times, and then calls applied with the sum.
func gather(n int, applied func(Applied)) func(Applied) {
	var (
		mu  sync.Mutex
		sum Applied
	)
	return func(a Applied) {
		mu.Lock()
		defer mu.Unlock()
		sum.Proxies += a.Proxies
		sum.Acknowledged += a.Acknowledged
		sum.Rejected += a.Rejected
		sum.Gone += a.Gone
		sum.Late += a.Late
		sum.Took = max(sum.Took, a.Took)
		if n--; n == 0 {
			applied(sum)
		}
	}
}

// fold tells the model of all that is queued, and returns what that changed and when the first event came.
func (w *Watcher) fold() (change, time.Time) {
	events, since := w.source.queue.take()
	for _, tell := range events {
		tell(w.model)
	}
	return w.model.flush(), since
}

// translate makes the updates, and tells of what is wrong with objects.
func (w *Watcher) translate(changes change) updates {
	var (
		u        updates
		failures []envoy.Failure
	)
	u.sidecars, failures = w.snapshot.Apply(changes.Ports)
	concerned := map[mesh.Object]bool{}
	for _, c := range changes.Problems {
		concerned[c.Object] = true
	}
	for _, c := range changes.Ports {
		if w.untranslated[c.Owner] != nil {
			concerned[c.Owner] = true
			delete(w.untranslated, c.Owner)
		}
	}
	for _, f := range failures {
		concerned[f.Owner] = true
		w.untranslated[f.Owner] = append(w.untranslated[f.Owner], label.Problem{
			Key: label.PortKey(f.Port), Reason: f.Err.Error(), InForce: "what was before",
		})
	}
	var of []mesh.Object
	u.gateway, of = w.translateGateway(changes.gateway)
	for _, o := range of {
		concerned[o] = true
	}
	w.report(concerned)
	return u
}
