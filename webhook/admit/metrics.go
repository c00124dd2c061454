package admit

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	admissions *prometheus.CounterVec
	seconds    *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "traffic_webhook_admissions_total",
			Help: "Requests of the API server by path and by what became of them.",
		}, []string{"path", "result"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "traffic_webhook_admission_seconds",
			Help:    "Time from a request's first byte to the response's last, by path.",
			Buckets: []float64{0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10},
		}, []string{"path"}),
	}
	r.MustRegister(m.admissions, m.seconds)
	return m
}

// pathMetrics are those of one path.
type pathMetrics struct {
	admissions *prometheus.CounterVec
	seconds    prometheus.Observer
}

// on makes those of a path, its errors at zero: of a counter that comes into being with its first event nobody sees an increase.
func (m metrics) on(path string) pathMetrics {
	m.admissions.WithLabelValues(path, "error")
	return pathMetrics{m.admissions.MustCurryWith(prometheus.Labels{"path": path}), m.seconds.WithLabelValues(path)}
}

// observe starts the clock; what it returns stops it and counts the result.
func (m pathMetrics) observe(result *string) func() {
	start := time.Now()
	return func() {
		m.seconds.Observe(time.Since(start).Seconds())
		m.admissions.WithLabelValues(*result).Inc()
	}
}

// Expiration is the metric of when the certificate in force ends to be valid.
func (s *Secret) Expiration() prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "traffic_webhook_certificate_expiration_timestamp_seconds",
		Help: "When the certificate that is served ends to be valid, in seconds since 1970.",
	}, func() float64 { return float64(s.current.Load().certificate.Leaf.NotAfter.Unix()) })
}
