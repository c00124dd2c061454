package mesh

import (
	"net/netip"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// A Port is an open port of a Service or Pod, as injected clients see it.
type Port struct {
	// Owner is the Service or Pod whose label opens the port.
	Owner Object
	// Number is the Service's port, or the container's.
	Number uint16
	// Protocol is never zero: a port that no label opens is not in the model.
	Protocol label.Protocol
	// Settings is what the owner's labels say.
	Settings label.Settings
	// Addresses are those at which clients reach the port, sorted: of a Service its cluster IPs, external and load
	// balancer addresses; of a headless Service its endpoints, each with its own port and of both families; of a Pod its
	// IPs. Each belongs to one port in the whole mesh.
	Addresses []netip.AddrPort
	// Headless says that clients have picked an endpoint already, but for requests by the Service's name.
	Headless bool
	// Endpoints are sorted by address, each once, all of one family; a Pod has one. There are none if the port is not
	// Balanced.
	Endpoints []Endpoint
}

// Balanced reports whether Envoy picks the endpoint. Otherwise a connection goes to the address that was dialled.
func (p Port) Balanced() bool {
	return p.Protocol != label.Direct && (!p.Headless || p.Protocol != label.TCP)
}

// An Endpoint is where a request can go.
type Endpoint struct {
	Address netip.AddrPort
	// Weight is from 1 to label.MaxWeight: an endpoint of weight 0 is not in the model.
	Weight uint32
}

// Changes is what differs between two states of a mesh. Each list is sorted by object.
type Changes struct {
	Ports    []PortChange
	Problems []ProblemChange
	Labels   []LabelChange
	// Services are those of which anything may be different, for who asks for their Backend.
	Services []Object
}

// A PortChange has all open ports of a Service or Pod, sorted by number; none if it is gone or closed.
type PortChange struct {
	Owner Object
	Ports []Port
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
