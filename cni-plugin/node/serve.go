package node

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics of the agent; package prometheus documents the kinds.
type metrics struct {
	registry  *prometheus.Registry
	ready     prometheus.Gauge
	backend   *prometheus.GaugeVec
	writes    *prometheus.CounterVec
	repairs   *prometheus.CounterVec
	injected  prometheus.Gauge
	unseen    prometheus.Gauge
	rewritten prometheus.Gauge
	seconds   prometheus.Histogram
	plugin    *prometheus.HistogramVec
}

func newMetrics() *metrics {
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		ready:     prometheus.NewGauge(prometheus.GaugeOpts{Name: "traffic_node_ready", Help: "1 when a pod that starts now would be redirected."}),
		backend:   prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "traffic_node_backend", Help: "1 for the back end that writes redirect rules."}, []string{"backend"}),
		writes:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "traffic_node_writes_total", Help: "Files written for the container runtime: conflist or binary."}, []string{"file"}),
		repairs:   prometheus.NewCounterVec(prometheus.CounterOpts{Name: "traffic_node_repairs_total", Help: "Pods whose rules were not those of their annotation, by result: repaired or failed."}, []string{"result"}),
		injected:  prometheus.NewGauge(prometheus.GaugeOpts{Name: "traffic_node_injected_pods", Help: "Injected pods of this node that have not ended."}),
		unseen:    prometheus.NewGauge(prometheus.GaugeOpts{Name: "traffic_node_unseen_pods", Help: "Injected pods with an address whose network namespace was not found."}),
		rewritten: prometheus.NewGauge(prometheus.GaugeOpts{Name: "traffic_node_rewritten_connections", Help: "1 when something rewrites cluster IPs before connections can be redirected."}),
		seconds:   prometheus.NewHistogram(prometheus.HistogramOpts{Name: "traffic_node_pass_seconds", Help: "Time of one look at files and pods.", Buckets: prometheus.ExponentialBuckets(0.0005, 4, 8)}),
		plugin: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "traffic_node_cni_seconds", Help: "Time that the CNI plugin took to redirect a pod at its start, by result: redirected or failed.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 14), // to 4 s
		}, []string{"result"}),
	}
	m.registry.MustRegister(m.ready, m.backend, m.writes, m.repairs, m.injected, m.unseen, m.rewritten, m.seconds, m.plugin)
	for _, result := range []string{"repaired", "failed"} {
		m.repairs.WithLabelValues(result)
	}
	for _, result := range []string{"redirected", "failed"} {
		m.plugin.WithLabelValues(result)
	}
	return m
}

// stuckAfter is how long one pass may take before the agent counts as stuck.
const stuckAfter = 2 * time.Minute

// health is what the loop knows about itself, for probes.
type health struct {
	mu    sync.Mutex
	busy  time.Time // start of the pass that is running
	ready error     // why pods that start now would not be redirected
}

func (h *health) begin(now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy = now
}

func (h *health) end(ready error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy, h.ready = time.Time{}, ready
}

func (h *health) live(now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.busy.IsZero() && now.Sub(h.busy) > stuckAfter {
		return errors.New("stuck since " + h.busy.Format(time.RFC3339))
	}
	return nil
}

func (h *health) whyNotReady() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ready
}

func (a *Agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(a.metrics.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.health.live(time.Now())) })
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, _ *http.Request) { answer(w, a.health.whyNotReady()) })
	return mux
}

func answer(w http.ResponseWriter, err error) {
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = w.Write([]byte("ok\n"))
}
