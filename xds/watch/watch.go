package watch

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
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
	Reporter   Reporter
	Logger     *slog.Logger
	Registerer prometheus.Registerer
}

// A Watcher keeps what is published as the Kubernetes API has it.
type Watcher struct {
	source *Source
	log    *slog.Logger

	// One goroutine owns these.
	mesh     *mesh.Mesh
	snapshot *envoy.Snapshot
	// untranslated has the problems of objects with ports that could not be translated.
	untranslated map[mesh.Object][]label.Problem

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
	return &Watcher{
		source:       c.Source,
		log:          c.Logger,
		mesh:         mesh.New(c.Mesh),
		snapshot:     envoy.NewSnapshot(c.Translator),
		untranslated: map[mesh.Object][]label.Problem{},
		publisher:    c.Publisher,
		reporter:     c.Reporter,
		metrics:      m,
	}, nil
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
		select {
		case <-ctx.Done():
			return
		case <-w.source.queue.some:
			w.next()
		}
	}
}

// Ready reports whether everything that there was at the start is published.
func (w *Watcher) Ready() bool { return w.ready.Load() }

// first publishes what there is.
func (w *Watcher) first(began time.Time) {
	changes, _ := w.fold()
	update := w.translate(changes)
	w.publisher.Publish(update, func(Applied) {})
	w.ready.Store(true)
	w.log.Info("published all there is", "services", len(changes.Ports), "resources", len(update.Set),
		"objects_with_problems", len(changes.Problems), "took", short(time.Since(began)))
}

// next publishes what has changed since.
func (w *Watcher) next() {
	changes, since := w.fold()
	update := w.translate(changes)
	logApplied := w.changeLogger(changes.Labels, update, since)
	if len(update.Set)+len(update.Remove) == 0 {
		logApplied(Applied{})
		return
	}
	w.log.Debug("publish", "set", setKeys(update.Set), "remove", update.Remove)
	w.publisher.Publish(update, logApplied)
}

// fold tells the mesh of all that is queued, and returns what that changed and when the first event came.
func (w *Watcher) fold() (mesh.Changes, time.Time) {
	events, since := w.source.queue.take()
	for _, tell := range events {
		tell(w.mesh)
	}
	return w.mesh.Flush(), since
}

// translate makes the update, and tells of what is wrong with objects.
func (w *Watcher) translate(changes mesh.Changes) envoy.Update {
	update, failures := w.snapshot.Apply(changes.Ports)
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
	w.report(concerned)
	return update
}
