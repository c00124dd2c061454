package ingress

import (
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A Host is what the gateway serves under a host name.
type Host struct {
	// Name is empty for all hosts that no other Host is for; "*.example.com" is for names of one label more.
	Name string
	// Secure says that there is a certificate for it.
	Secure bool
	// Routes are in the order in which they are tried. A host with a certificate and without rules has those of the wildcard
	// that it is below, or of the Host without a name.
	Routes []Route
	// Deeper are, of a wildcard, for the names of more labels: those of the Host without a name.
	Deeper []Route
}

// A Route leads requests to a backend.
type Route struct {
	// Ingress is whose rule it is.
	Ingress mesh.Object
	// Path is normalized, and without the slash at its end if Match is Prefix, unless it is "/".
	Path  string
	Match Match
	// Backend is zero if there is none: the answer is 503.
	Backend BackendKey
	// Settings are what the labels of the Service say of requests, as far as the gateway does it.
	Settings label.Settings
	// Secure says that the host has a certificate by an Ingress of the same namespace: plain requests are redirected.
	Secure bool
	// Options are those of the Ingress.
	Options label.IngressSettings
}

// A Match says how a path is compared. The smaller is tried first, among paths of one length.
type Match uint8

// The ways to compare a path.
const (
	Exact Match = iota
	// Prefix matches whole elements: "/a" is for "/a" and "/a/b", not for "/ab".
	Prefix
	// TextPrefix matches the beginning of the text.
	TextPrefix
	// Default matches whatever nothing else matches.
	Default
)

// A BackendKey names a port of a Service and how the gateway speaks to it.
type BackendKey struct {
	Service  mesh.Object
	Port     uint16
	Upstream label.Upstream
}

// A Certificate is what the gateway shows to clients that ask for one of its hosts.
type Certificate struct {
	Secret mesh.Object
	// Hosts are those whose certificate it is, sorted, wildcards among them.
	Hosts []string
	// Domains are what a connection with it can ask for, sorted: Hosts, and below a wildcard those that have no certificate
	// of their own. Each is the name of a Host, or of none yet.
	Domains []string
	// Pair is nil if the Secret cannot be used.
	Pair *Pair
}

// A Pair is a certificate with its chain, and its private key, in PEM.
type Pair struct {
	Chain, Key []byte
}

// Changes is what differs between two states of a gateway. Each list is sorted.
type Changes struct {
	Hosts        []HostChange
	Backends     []BackendChange
	Certificates []CertificateChange
	Problems     []mesh.ProblemChange
	Served       []ServedChange
}

// A ServedChange says whether the gateway serves an Ingress: it is of its class, and some of it acts. One that is gone is
// not served.
type ServedChange struct {
	Ingress mesh.Object
	Served  bool
}

// A HostChange has a host; nil if it is gone.
type HostChange struct {
	Name string
	Host *Host
}

// A BackendChange has the port of a backend; nil if no route leads to it any more.
type BackendChange struct {
	Key  BackendKey
	Port *mesh.Port
}

// A CertificateChange has a certificate; nil if no host has it any more.
type CertificateChange struct {
	Secret      mesh.Object
	Certificate *Certificate
}
