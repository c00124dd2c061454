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

	portPrefix = "traffic.port."
)

// ProxyAnnotation is what the webhook writes on each pod that has an Envoy; Prometheus keeps the pods where it is set. It is not
// a label: users do not set it.
const ProxyAnnotation = "traffic.envoy.proxy"

// PortKey is the key that opens that port.
func PortKey(port uint16) string { return portPrefix + strconv.Itoa(int(port)) }

// Default settings where no label says otherwise.
const (
	DefaultWeight = 100
	MaxWeight     = 128
)

// Settings is what the labels of one object say. A nil or missing field means that no valid label set it.
type Settings struct {
	Enabled *bool
	// Weight is the load-balancing weight of a pod, 0 to MaxWeight; 0 takes it out.
	Weight *uint32
	// Ports holds the protocol of each open port: service ports on a Service, container ports on a Pod.
	Ports map[uint16]Protocol
}

// podPorts is why the keys of a pod's own ports do nothing so far.
var podPorts = map[Kind]string{Pod: "ports of pods are not opened yet; label the Service"}

// Table is the vocabulary. Its order is the order of the reference page and of precedence: where two keys set one
// field, the earlier entry wins.
var Table = []Key{
	entry(Key{
		Name: EnabledKey,
		On:   []Kind{Namespace, Deployment, StatefulSet, DaemonSet, Job, CronJob, Pod},
		Meaning: "Inject Envoy. The most specific wins: Pod, then workload, then Namespace. " +
			"On a workload it rolls the workload; on a running Pod it acts at the next creation.",
		Default: "false",
		Example: "true",
	}, boolean, func(s *Settings, _ uint16, v bool) { s.Enabled = &v }),

	entry(Key{
		Name: portPrefix + portPlaceholder,
		On:   []Kind{Service, Pod},
		Meaning: "Open the port (service port on a Service, container port on a Pod) to injected clients, and say how it is " +
			"handled. direct bypasses Envoy's balancing; grpc is another word for http2.",
		Default: "the port is blocked",
		Example: "http",
		notYet:  podPorts,
	}, protocol, setPort),

	entry(Key{
		Name:    "traffic.target.port." + portPlaceholder,
		On:      []Kind{Pod},
		Meaning: "Another spelling of the pod form of " + portPrefix + portPlaceholder + ", which wins where both are set.",
		Default: "the port is blocked",
		Example: "http",
		notYet:  podPorts,
	}, protocol, setPort),

	entry(Key{
		Name:    WeightKey,
		On:      []Kind{Deployment, StatefulSet, DaemonSet, Pod},
		Meaning: "Load-balancing weight of the pods; 0 takes them out. A Pod's own weight wins over its workload's.",
		Default: "100",
		Example: "10",
	}, weight, func(s *Settings, _ uint16, v uint32) { s.Weight = &v }),
}

// setPort keeps the first protocol given for a port: the table's order decides between two spellings.
func setPort(s *Settings, port uint16, p Protocol) {
	if s.Ports == nil {
		s.Ports = map[uint16]Protocol{}
	}
	if _, set := s.Ports[port]; !set {
		s.Ports[port] = p
	}
}
