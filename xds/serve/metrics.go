package serve

import (
	"fmt"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what an operator sees of the server. No label takes a value from a proxy.
type metrics struct {
	proxies    prometheus.Gauge
	responses  *prometheus.CounterVec
	resources  *prometheus.CounterVec
	bytes      *prometheus.CounterVec
	rejections *prometheus.CounterVec
	refusals   *prometheus.CounterVec
	deadlines  prometheus.Counter
	applied    prometheus.Histogram
}

func newMetrics(registerer prometheus.Registerer, c *certificate) (*metrics, error) {
	byType := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, []string{"type"})
	}
	m := &metrics{
		proxies: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "traffic_control_connected_proxies",
			Help: "Proxies that are connected and identified.",
		}),
		responses: byType("traffic_control_pushes_total", "Responses sent to proxies."),
		resources: byType("traffic_control_pushed_resources_total", "Resources and removals in these responses."),
		bytes:     byType("traffic_control_pushed_bytes_total", "Bytes of the resources in these responses."),
		rejections: byType("traffic_control_rejections_total",
			"Responses that a proxy refused (NACK). One bad resource in a large response is refused several times while it is singled out."),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "traffic_control_refused_streams_total",
			Help: "Streams and connections that were turned away, by reason.",
		}, []string{"reason"}),
		deadlines: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "traffic_control_order_deadlines_total",
			Help: "Times that a proxy was sent routes or removals although it had not confirmed what they depend on.",
		}),
		applied: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "traffic_control_publish_ack_seconds",
			Help:    "Time from publishing a change until every connected proxy that it concerns had answered.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 14), // 1 ms to 8 s
		}),
	}
	expiration := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "traffic_control_certificate_expiration_timestamp_seconds",
		Help: "When the certificate that is served ends to be valid, in seconds since 1970.",
	}, c.expiration)
	for _, c := range []prometheus.Collector{
		expiration, m.proxies, m.responses, m.resources, m.bytes, m.rejections, m.refusals, m.deadlines, m.applied,
	} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register a metric: %w", err)
		}
	}
	m.startAtZero()
	return m, nil
}

// refusalReasons are those of every refusal.
var refusalReasons = []string{
	"no_token", "node_id", "overload", "request", "silent", "starting", "state_of_the_world", "streams", "tls", "token", "token_review",
}

// startAtZero makes what alerts look at: of a counter that comes into being with its first event nobody sees an increase.
func (m *metrics) startAtZero() {
	for _, typeURL := range []string{
		resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.SecretType, resourcev3.ListenerType, resourcev3.RouteType,
	} {
		m.rejections.WithLabelValues(typeLabel(typeURL))
	}
	for _, reason := range refusalReasons {
		m.refusals.WithLabelValues(reason)
	}
}

func (m *metrics) sent(r *response) {
	label := typeLabel(r.typeURL)
	m.responses.WithLabelValues(label).Inc()
	m.resources.WithLabelValues(label).Add(float64(len(r.items)))
	m.bytes.WithLabelValues(label).Add(float64(r.size()))
}

// typeLabel keeps the label's values few: a proxy may ask for any type.
func typeLabel(typeURL string) string {
	switch typeURL {
	case resourcev3.ClusterType:
		return "cluster"
	case resourcev3.EndpointType:
		return "endpoint"
	case resourcev3.SecretType:
		return "secret"
	case resourcev3.ListenerType:
		return "listener"
	case resourcev3.RouteType:
		return "route"
	default:
		return "other"
	}
}
