package label

import "time"

// Default settings where no label says otherwise.
const (
	DefaultWeight            = 100
	MaxWeight                = 128
	DefaultAbortStatus       = 503
	DefaultConnectionTimeout = 60 * time.Second
	DefaultMaxRetries        = 3
	DefaultMaxConnections    = 1024
	DefaultMaxPending        = 1024
	DefaultMaxRequests       = 1024
)

// Settings is what the labels of one object say. A nil, missing or zero field means that no valid label set it.
type Settings struct {
	Enabled *bool
	// Weight is the load-balancing weight of a pod, 0 to MaxWeight; 0 takes it out.
	Weight *uint32
	// Ports holds the protocol of each open port: service ports on a Service, container ports on a Pod.
	Ports map[uint16]Protocol

	Balancing Balancing
	Fault     Fault
	// RateLimit is the bandwidth of each response in KiB/s; 0 is no limit.
	RateLimit uint32
	Tracing   Tracing
	// RequestTimeout is for a request with all its retries; 0 is none.
	RequestTimeout time.Duration
	// ConnectionTimeout is for a connection to an endpoint; 0 is DefaultConnectionTimeout.
	ConnectionTimeout time.Duration
	Retries           Retries
	Limits            Limits
}

// Balancing says which endpoint gets a request.
type Balancing struct {
	Policy Policy
	// HashHeader and HashCookie name what RingHash and Maglev hash; the header decides where a request has both.
	HashHeader, HashCookie string
	// CookieTTL is how long the client keeps a cookie that is generated where there is none; 0 is a session cookie, nil
	// generates none.
	CookieTTL *time.Duration
}

// Hashes reports whether the policy asks for something to hash.
func (b Balancing) Hashes() bool { return b.Policy == RingHash || b.Policy == Maglev }

// A Fault is what some requests suffer, at random.
type Fault struct {
	Delay           time.Duration
	DelayPercentage Percentage
	// AbortStatus is the HTTP status of aborted requests; 0 is DefaultAbortStatus.
	AbortStatus     uint32
	AbortPercentage Percentage
}

// Tracing says which requests are traced.
type Tracing struct {
	Enabled bool
	// Sampling is the share of requests that start a trace; nil is all.
	Sampling *Percentage
}

// Retries says how often a request is tried again, by cause; 0 is not at all.
type Retries struct {
	ServerError, ConnectFailure, GatewayError uint32
}

// Limits bound what one client sends to one port at a time; 0 is the default of each.
type Limits struct {
	Retries, Connections, Pending, Requests uint32
}
