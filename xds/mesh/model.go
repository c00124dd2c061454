package mesh

import (
	"net/netip"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// A Port is an open port of a Service, as injected clients see it.
type Port struct {
	Service Object
	Number  uint16
	// Protocol is never zero: a port that no label opens is not in the model.
	Protocol label.Protocol
	// Settings is what the Service's labels say.
	Settings label.Settings
	// Addresses are those at which clients reach the port, sorted: cluster IPs, external and load balancer addresses.
	// An address and port that two Services claim is the older one's.
	Addresses []netip.Addr
	// Endpoints are sorted by address, each once, all of one family. A direct port has none: the client's own choice
	// of address is kept.
	Endpoints []Endpoint
}

// An Endpoint is where a request can go.
type Endpoint struct {
	Address netip.AddrPort
	// Weight is from 1 to label.MaxWeight: an endpoint of weight 0 is not in the model.
	Weight uint32
}

// Changes is what differs between two states of a mesh. Each list is sorted by object.
type Changes struct {
	Services []ServiceChange
	Problems []ProblemChange
	Labels   []LabelChange
}

// A ServiceChange has all open ports of a Service, sorted by number; none if it is gone or closed.
type ServiceChange struct {
	Service Object
	Ports   []Port
}

// A ProblemChange has all problems of an object, sorted by key; none if they are fixed or the object is gone.
type ProblemChange struct {
	Object   Object
	Problems []label.Problem
}

// A LabelChange is one label that was set, changed or removed. It tells what a person or a deployment did, whether
// or not it had an effect: the birth and the end of pods, which repeat their template, are not in it.
type LabelChange struct {
	Object   Object
	Key      string
	Old, New string
}
