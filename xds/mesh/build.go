package mesh

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// build computes the model of a Service from the objects that concern it.
func (m *Mesh) build(s *openService) ([]Port, []label.Problem) {
	var (
		ports    []Port
		problems = slices.Concat(s.problems, s.shut)
	)
	for _, open := range s.open {
		port := Port{Service: s.object, Number: open.number, Protocol: open.protocol, Settings: s.settings}
		for address := range s.addresses() {
			at := netip.AddrPortFrom(address, open.number)
			if winner := m.claims.winner(at); winner != s.object {
				problems = append(problems, s.problem(open.number,
					fmt.Sprintf("%s is already an address of %s", at, winner), "the other's labels, at this address"))
				continue
			}
			port.Addresses = append(port.Addresses, address)
		}
		slices.SortFunc(port.Addresses, netip.Addr.Compare)
		if open.protocol != label.Direct {
			var found int
			port.Endpoints, found = m.endpoints(s, open.name)
			if found > 0 && len(port.Endpoints) == 0 {
				problems = append(problems, label.Problem{Key: label.WeightKey, Value: "0",
					Reason:  fmt.Sprintf("every endpoint of port %d has weight 0", open.number),
					InForce: "clients get 503, or a closed connection"})
			}
		}
		ports = append(ports, port)
	}
	return ports, problems
}

// endpoints returns the weighted endpoints of a named port, and how many there are before weights.
//
// New traffic goes to ready endpoints. While there is none, it goes to those that are terminating and still serve, as
// kube-proxy does it: the last pod of a rollout answers until it is gone.
//
// A pod of a dual-stack Service has an address of each family. One family is used, so that a pod counts once: the
// Service's first, unless only the other has endpoints.
func (m *Mesh) endpoints(s *openService, portName string) (endpoints []Endpoint, found int) {
	candidates := m.candidates(s, portName)
	best := candidates[s.v6]
	if len(best) == 0 {
		best = candidates[!s.v6]
	}
	for address, e := range best {
		if weight := m.weight(e.pod); weight > 0 {
			endpoints = append(endpoints, Endpoint{Address: address, Weight: weight})
		}
	}
	slices.SortFunc(endpoints, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	return endpoints, len(best)
}

// candidates returns, by family (true for IPv6), the endpoints of a named port that can take traffic, each address once.
func (m *Mesh) candidates(s *openService, portName string) map[bool]map[netip.AddrPort]sliceEndpoint {
	all := map[bool]map[netip.AddrPort]sliceEndpoint{false: {}, true: {}}
	for _, o := range slices.SortedFunc(maps.Keys(m.slicesOf[s.object]), Object.Compare) {
		slice := m.slices[o]
		number, ok := slice.ports[portName]
		if !ok {
			continue
		}
		for _, e := range slice.endpoints {
			// The same endpoint is in two slices while it moves from one to the other.
			at := netip.AddrPortFrom(e.address, number)
			if known, twice := all[slice.v6][at]; !twice || known.state < e.state {
				all[slice.v6][at] = e
			}
		}
	}
	for _, family := range all {
		var best state
		for _, e := range family {
			best = max(best, e.state)
		}
		maps.DeleteFunc(family, func(_ netip.AddrPort, e sliceEndpoint) bool {
			return e.state == unready || e.state < best
		})
	}
	return all
}

// weight is the pod's own, or else its workload's.
func (m *Mesh) weight(o Object) uint32 {
	p := m.pods[o]
	if p == nil {
		return label.DefaultWeight
	}
	if p.settings.Weight != nil {
		return *p.settings.Weight
	}
	if w := m.workloads[m.workloadOf(p.owner)]; w != nil && w.settings.Weight != nil {
		return *w.settings.Weight
	}
	return label.DefaultWeight
}

// workloadOf returns the workload that a user labels: the Deployment of a ReplicaSet, or the controller itself.
func (m *Mesh) workloadOf(controller Object) Object {
	if w := m.workloads[controller]; controller.Kind == ReplicaSet && w != nil {
		return w.owner
	}
	return controller
}

// podsOfWorkload yields the pods that a workload controls, through ReplicaSets or by itself.
func (m *Mesh) podsOfWorkload(o Object) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		controllers := map[Object]struct{}{o: {}}
		maps.Copy(controllers, m.replicaSetsOf[o])
		for controller := range controllers {
			for pod := range m.podsOf[controller] {
				if !yield(pod) {
					return
				}
			}
		}
	}
}
