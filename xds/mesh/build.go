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
		addresses, lost := m.wonAddresses(s, open.number)
		port := Port{Service: s.object, Number: open.number, Protocol: open.protocol, Settings: s.settings, Addresses: addresses}
		problems = append(problems, lost...)
		if open.protocol != label.Direct {
			endpoints, idle := m.endpoints(s, open)
			port.Endpoints = endpoints
			problems = append(problems, idle...)
		}
		ports = append(ports, port)
	}
	return ports, problems
}

// wonAddresses returns the addresses of a Service at which the port is its own, and tells of the others.
func (m *Mesh) wonAddresses(s *openService, port uint16) (won []netip.Addr, lost []label.Problem) {
	for address := range s.addresses() {
		at := netip.AddrPortFrom(address, port)
		winner := m.claims.winner(at)
		if winner == s.object {
			won = append(won, address)
			continue
		}
		reason := fmt.Sprintf("%s is already an address of %s", at, winner)
		lost = append(lost, s.problem(port, reason, "the other's labels, at this address"))
	}
	slices.SortFunc(won, netip.Addr.Compare)
	return won, lost
}

// endpoints returns the weighted endpoints of a port, and tells if weights leave none.
//
// New traffic goes to ready endpoints. While there is none, it goes to those that are terminating and still serve, as
// kube-proxy does it: the last pod of a rollout answers until it is gone.
//
// A pod of a dual-stack Service has an address of each family. One family is used, so that a pod counts once: the
// Service's first, unless only the other has endpoints.
func (m *Mesh) endpoints(s *openService, port openPort) (weighted []Endpoint, idle []label.Problem) {
	candidates := m.candidates(s, port.name)
	family := candidates[s.v6]
	if len(family) == 0 {
		family = candidates[!s.v6]
	}
	for address, e := range family {
		if weight := m.weight(e.pod); weight > 0 {
			weighted = append(weighted, Endpoint{Address: address, Weight: weight})
		}
	}
	slices.SortFunc(weighted, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	if len(family) > 0 && len(weighted) == 0 {
		idle = []label.Problem{{
			Key: label.WeightKey, Value: "0",
			Reason:  fmt.Sprintf("every endpoint of port %d has weight 0", port.number),
			InForce: "clients get 503, or a closed connection",
		}}
	}
	return weighted, idle
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
