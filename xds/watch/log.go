package watch

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// changeLogger returns the function that writes one line for each label that changed, once it is known what became of
// the update. Labels that changed together share their update.
func (w *Watcher) changeLogger(changes []mesh.LabelChange, u updates, since time.Time) func(Applied) {
	set, removed := len(u.sidecars.Set)+len(u.gateway.Set), len(u.sidecars.Remove)+len(u.gateway.Remove)
	return func(a Applied) {
		took := time.Since(since)
		if set+removed > 0 {
			w.metrics.propagation.Observe(took.Seconds())
		}
		for _, c := range changes {
			w.log.Info("label changed", "object", c.Object.String(), "key", c.Key, "old", c.Old, "new", c.New,
				"set", set, "removed", removed, "proxies", a.Proxies, "acknowledged", a.Acknowledged,
				"rejected", a.Rejected, "gone", a.Gone, "late", a.Late, "took", short(took))
		}
	}
}

// report logs what is new of the problems of the objects, reports them all, and counts those of all objects.
func (w *Watcher) report(objects map[mesh.Object]bool) {
	for _, o := range slices.SortedFunc(maps.Keys(objects), mesh.Object.Compare) {
		before, problems := w.problems[o], slices.Concat(w.model.problems(o), w.untranslated[o], w.gatewayFailures[o])
		for _, p := range problems {
			if !slices.Contains(before, p) {
				w.log.Warn(p.Subject.String()+" not in force", "object", o.String(), "key", p.Key, "value", p.Value, "reason", p.Reason, "in_force", p.InForce)
			}
		}
		w.problems[o] = problems
		if len(problems) == 0 {
			delete(w.problems, o)
			if len(before) > 0 {
				w.log.Info("no more problems", "object", o.String())
			}
		}
		w.metrics.wrong.Add(float64(len(problems) - len(before)))
		w.reporter.Report(o, problems)
	}
}

// short is a duration as people read it.
func short(d time.Duration) string { return d.Round(100 * time.Microsecond).String() }

func setKeys(resources []envoy.Resource) []envoy.Key {
	keys := make([]envoy.Key, len(resources))
	for i, r := range resources {
		keys[i] = r.Key
	}
	return keys
}

// metrics are the Watcher's.
type metrics struct {
	propagation  prometheus.Histogram
	wrong        prometheus.Gauge
	certificates *prometheus.GaugeVec
}

func newMetrics(registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		propagation: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "traffic_control_propagation_seconds",
			Help:    "Time from the event of an object to the last answer of the proxies that its update concerned.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14),
		}),
		wrong: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "traffic_control_label_problems",
			Help: "Labels, and annotations and fields of Ingresses, that do not do what they say: not valid, unknown or without effect.",
		}),
		certificates: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "traffic_control_ingress_certificates",
			Help: "Secrets of Ingresses by what is wrong: unusable (missing, broken or expired) or expiring (in less than a week, and a quarter of its time).",
		}, []string{"state"}),
	}
	for _, c := range []prometheus.Collector{m.propagation, m.wrong, m.certificates} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("metrics of the watcher: %w", err)
		}
	}
	return m, nil
}
