package label

import (
	"slices"
	"strconv"
	"time"
)

// Table is the vocabulary. Its order is the order of the reference page and of precedence: where two keys set one
// field, the earlier entry wins.
var Table = slices.Concat(injection, ports, balancing, faults, tracing, timeouts, breakers)

var injection = []Key{
	entry(Key{
		Name: EnabledKey,
		On:   []Kind{Namespace, Deployment, StatefulSet, DaemonSet, Job, CronJob, Pod},
		Meaning: "Inject Envoy. The most specific wins: Pod, then workload, then Namespace. " +
			"On a workload it rolls the workload; on a running Pod it acts at the next creation. Pods of kube-system, of the release's namespace " +
			"and of cert-manager's are never injected.",
		Default: "what the less specific says, in the end false",
		Example: "true",
	}, boolean, func(s *Settings, _ uint16, v bool) { s.Enabled = &v }),
}

var ports = []Key{
	entry(Key{
		Name: portPrefix + portPlaceholder,
		On:   []Kind{Service, Pod},
		Meaning: "Open the port (service port on a Service, container port on a Pod) to injected clients, and say how it is " +
			"handled. direct bypasses Envoy's balancing; grpc is another word for http2.",
		Default: "the port is blocked",
		Example: "http",
	}, protocol, setPort),

	entry(Key{
		Name:    targetPortPrefix + portPlaceholder,
		On:      []Kind{Pod},
		Meaning: "Another spelling of " + portPrefix + portPlaceholder + " on a Pod. Where both are set, " + portPrefix + portPlaceholder + " wins.",
		Default: "the port is blocked",
		Example: "http",
	}, protocol, setPort),
}

// requests are the protocols of which Envoy sees requests, balanced those of which it picks the endpoint.
var (
	requests = []Protocol{HTTP, HTTP2}
	balanced = []Protocol{HTTP, HTTP2, TCP}
)

var balancing = []Key{
	entry(Key{
		Name: WeightKey,
		On:   []Kind{Deployment, StatefulSet, DaemonSet, Pod},
		Meaning: "Load-balancing weight of the pods; 0 takes them out, more than 128 counts as 128. A Pod's own weight wins over its workload's. " +
			"Weights count where Envoy picks the pod: not on direct ports, nor for who dials a pod itself, by its own port or by a tcp port of a headless Service.",
		Default: "100",
		Example: "10",
	}, weight, func(s *Settings, _ uint16, v uint32) { s.Weight = &v }),

	entry(Key{
		Name: PolicyKey,
		On:   []Kind{Service},
		Of:   balanced,
		Meaning: "How an endpoint is picked. RING_HASH and MAGLEV keep requests with the same cookie or header together. " +
			"RANDOM ignores weights.",
		Default: "ROUND_ROBIN",
		Example: "RING_HASH",
	}, policy, func(s *Settings, _ uint16, v Policy) { s.Balancing.Policy = v }),

	entry(Key{
		Name: cookieNameKey,
		On:   []Kind{Service},
		Of:   requests,
		Meaning: "Hash on this cookie. A label's value begins and ends with a letter or digit, so a cookie such as __Host-id " +
			"cannot be named.",
		Default: "no cookie is looked at",
		Example: "session",
	}, token, func(s *Settings, _ uint16, v string) { s.Balancing.HashCookie = v }),

	entry(Key{
		Name:    cookieTTLKey,
		On:      []Kind{Service},
		Of:      requests,
		Meaning: "Give a client without the cookie one that lasts so long; 0 until its session ends.",
		Default: "no cookie is given",
		Example: "1h",
	}, ttl, func(s *Settings, _ uint16, v time.Duration) { s.Balancing.CookieTTL = &v }),

	entry(Key{
		Name:    headerNameKey,
		On:      []Kind{Service},
		Of:      requests,
		Meaning: "Hash on this header. With a cookie to hash on too, the header decides where a request has it.",
		Default: "no header is looked at",
		Example: "x-user",
	}, token, func(s *Settings, _ uint16, v string) { s.Balancing.HashHeader = v }),
}

var faults = []Key{
	entry(Key{
		Name:    delayTimeKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Delay requests by so much, as many as " + delayPercentageKey + " says.",
		Default: "no delay",
		Example: "3s",
	}, duration, func(s *Settings, _ uint16, v time.Duration) { s.Fault.Delay = v }),

	entry(Key{
		Name:    delayPercentageKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "The share of requests that is delayed.",
		Default: "0",
		Example: "10",
	}, faultPercentage, func(s *Settings, _ uint16, v Percentage) { s.Fault.DelayPercentage = v }),

	entry(Key{
		Name:    abortPercentageKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "The share of requests that is aborted.",
		Default: "0",
		Example: "0.5",
	}, faultPercentage, func(s *Settings, _ uint16, v Percentage) { s.Fault.AbortPercentage = v }),

	entry(Key{
		Name:    abortStatusKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "The HTTP status with which requests are answered instead of being sent, as many as " + abortPercentageKey + " says.",
		Default: strconv.Itoa(DefaultAbortStatus),
		Example: "505",
	}, status, func(s *Settings, _ uint16, v uint32) { s.Fault.AbortStatus = v }),

	entry(Key{
		Name:    "traffic.rate.limit",
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Bandwidth of each response, in KiB per second.",
		Default: "no limit",
		Example: "100",
	}, positive, func(s *Settings, _ uint16, v uint32) { s.RateLimit = v }),
}

var tracing = []Key{
	entry(Key{
		Name:    TracingKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Report requests to the tracing collector of the chart's values. Applications join traces by forwarding the headers.",
		Default: "false",
		Example: "true",
	}, boolean, func(s *Settings, _ uint16, v bool) { s.Tracing.Enabled = v }),

	entry(Key{
		Name:    samplingKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "The share of requests that starts a trace; one that is in a trace already stays in it.",
		Default: "100",
		Example: "0.5",
	}, samplingPercentage, func(s *Settings, _ uint16, v Percentage) { s.Tracing.Sampling = &v }),
}

var timeouts = []Key{
	entry(Key{
		Name: "traffic.request.timeout",
		On:   []Kind{Service, Pod},
		Of:   requests,
		Meaning: "How long the answer to a request may take, with all retries, from when the server has the whole request; then the " +
			"client gets 504, or what it has got so far. 0 is for ever. It is not for WebSockets.",
		Default: "0",
		Example: "30s",
	}, durationOrNone, func(s *Settings, _ uint16, v time.Duration) { s.RequestTimeout = v }),

	entry(Key{
		Name:    "traffic.connection.timeout",
		On:      []Kind{Service, Pod},
		Meaning: "How long a connection to an endpoint may take to come about; then the client gets 503, or a TCP connection is closed.",
		Default: "60s",
		Example: "1s",
	}, duration, func(s *Settings, _ uint16, v time.Duration) { s.ConnectionTimeout = v }),

	entry(Key{
		Name: serverErrorKey,
		On:   []Kind{Service, Pod},
		Of:   requests,
		Meaning: "Try again, so often, what was answered with 5xx or not at all, whatever the method, with a body of up to 1 MiB, and at " +
			"another endpoint if there is one. Several retries labels count together, by the largest number.",
		Default: "no retries",
		Example: "3",
	}, number, func(s *Settings, _ uint16, v uint32) { s.Retries.ServerError = v }),

	entry(Key{
		Name:    "traffic.retries.connect-failure",
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Try again, so often, what found no connection.",
		Default: "no retries",
		Example: "3",
	}, number, func(s *Settings, _ uint16, v uint32) { s.Retries.ConnectFailure = v }),

	entry(Key{
		Name:    "traffic.retries.gateway-error",
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Try again, so often, what was answered with 502, 503 or 504, or not at all.",
		Default: "no retries",
		Example: "3",
	}, number, func(s *Settings, _ uint16, v uint32) { s.Retries.GatewayError = v }),
}

// breakers count for each client by itself: every Envoy has its own.
var breakers = []Key{
	entry(Key{
		Name:    maxRetriesKey,
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Breaker: retries of one client at a time; what is above is not tried again.",
		Default: strconv.Itoa(DefaultMaxRetries),
		Example: "10",
	}, positive, func(s *Settings, _ uint16, v uint32) { s.Limits.Retries = v }),

	entry(Key{
		Name: "traffic.connection.max",
		On:   []Kind{Service, Pod},
		Meaning: "Breaker: connections of one client at a time; requests above wait, connections to tcp and direct ports above are closed. Each of Envoy's " +
			"workers has at least one to each endpoint for requests.",
		Default: strconv.Itoa(DefaultMaxConnections),
		Example: "100",
	}, positive, func(s *Settings, _ uint16, v uint32) { s.Limits.Connections = v }),

	entry(Key{
		Name:    "traffic.request.max-pending",
		On:      []Kind{Service, Pod},
		Meaning: "Breaker: requests, or connections to tcp and direct ports, of one client that wait for a connection, a new one too; the client gets 503 above, or is closed.",
		Default: strconv.Itoa(DefaultMaxPending),
		Example: "100",
	}, positive, func(s *Settings, _ uint16, v uint32) { s.Limits.Pending = v }),

	entry(Key{
		Name:    "traffic.request.max",
		On:      []Kind{Service, Pod},
		Of:      requests,
		Meaning: "Breaker: requests of one client at a time; the client gets 503 above.",
		Default: strconv.Itoa(DefaultMaxRequests),
		Example: "100",
	}, positive, func(s *Settings, _ uint16, v uint32) { s.Limits.Requests = v }),
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
