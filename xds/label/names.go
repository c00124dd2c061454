package label

import "strconv"

// Prefix begins every label key of the product.
const Prefix = "traffic."

// Keys that other packages name: in selectors, in logs and in what is reported to users.
const (
	// EnabledKey opts a namespace, workload or pod in to injection.
	EnabledKey = "traffic.envoy.enabled"
	// WeightKey is the load-balancing weight of a pod or of the pods of a workload.
	WeightKey = "traffic.endpoint.weight"

	// PolicyKey is the load-balancing policy of a Service.
	PolicyKey = "traffic.lb.policy"

	// TracingKey reports requests to a collector.
	TracingKey = "traffic.tracing.enabled"

	portPrefix         = "traffic.port."
	targetPortPrefix   = "traffic.target.port."
	cookieNameKey      = "traffic.hash.cookie.name"
	cookieTTLKey       = "traffic.hash.cookie.ttl"
	headerNameKey      = "traffic.hash.header.name"
	delayTimeKey       = "traffic.fault.delay.time"
	delayPercentageKey = "traffic.fault.delay.percentage"
	abortStatusKey     = "traffic.fault.abort.status"
	abortPercentageKey = "traffic.fault.abort.percentage"
	samplingKey        = "traffic.tracing.sampling"
	retriesPrefix      = "traffic.retries."
	serverErrorKey     = "traffic.retries.5xx"
	maxRetriesKey      = "traffic.retries.max"
)

// ProxyAnnotation is what the webhook writes on each pod that has an Envoy; Prometheus keeps the pods where it is set. It is not
// a label: users do not set it.
const ProxyAnnotation = "traffic.envoy.proxy"

// PortKey is the key that opens that port.
func PortKey(port uint16) string { return portPrefix + strconv.Itoa(int(port)) }

func targetPortKey(port uint16) string { return targetPortPrefix + strconv.Itoa(int(port)) }

// OpenedBy is the key of the label that opens that port, in one of the two spellings.
func OpenedBy(labels map[string]string, port uint16) string {
	key, other := PortKey(port), targetPortKey(port)
	if _, _, err := protocol.parse(labels[key]); err != nil && labels[other] != "" {
		return other
	}
	return key
}
