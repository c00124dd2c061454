package mesh

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// build computes the model of a Service from the objects that concern it. If weights leave a port without endpoints,
// emptiedBy has the objects with these weights, sorted.
func (m *Mesh) build(s *openService) (ports []Port, problems []label.Problem, emptiedBy []Object) {
	problems = slices.Concat(m.told(s.labelled), s.unmet, m.beyond(s.object, s.labelled))
	var idle []sliceEndpoint
	for _, open := range within(s.open, m.limit) {
		addresses, lost := m.won(s.object, s.labelled, open.number)
		problems = append(problems, lost...)
		port := Port{
			Owner: s.object, Number: open.number, Protocol: open.protocol, Settings: s.settings,
			Addresses: addresses, Headless: s.headless(),
		}
		if port.Balanced() {
			candidates := m.candidates(s, open.name).of(s.v6)
			port.Endpoints = m.endpoints(candidates)
			if len(candidates) > 0 && len(port.Endpoints) == 0 {
				problems = append(problems, unanswered(port.Number))
				idle = slices.AppendSeq(idle, maps.Values(candidates))
			}
		}
		ports = append(ports, port)
	}
	return ports, append(problems, s.unweighted(ports)...), m.weighers(idle)
}

// buildPod computes the model of a Pod. Its endpoint is its primary address, by whichever it was dialled.
func (m *Mesh) buildPod(o Object, p *pod) ([]Port, []label.Problem) {
	if len(p.addresses) == 0 || len(p.settings.Ports) == 0 {
		return nil, p.problems
	}
	var (
		ports    []Port
		problems = slices.Concat(m.told(p.labelled), m.beyond(o, p.labelled))
	)
	for _, number := range within(slices.Sorted(maps.Keys(p.settings.Ports)), m.limit) {
		addresses, lost := m.won(o, p.labelled, number)
		problems = append(problems, lost...)
		port := Port{Owner: o, Number: number, Protocol: p.settings.Ports[number], Settings: p.settings, Addresses: addresses}
		if port.Balanced() {
			port.Endpoints = []Endpoint{{Address: netip.AddrPortFrom(p.addresses[0], number), Weight: label.DefaultWeight}}
		}
		ports = append(ports, port)
	}
	return ports, problems
}

// endpoints returns those that have a weight, sorted by address.
func (m *Mesh) endpoints(candidates map[netip.AddrPort]sliceEndpoint) []Endpoint {
	var weighted []Endpoint
	for address, e := range candidates {
		if weight := m.weight(e.pod); weight > 0 {
			weighted = append(weighted, Endpoint{Address: address, Weight: weight})
		}
	}
	slices.SortFunc(weighted, func(a, b Endpoint) int { return a.Address.Compare(b.Address) })
	return weighted
}

// unanswered tells a Service that weights leave no endpoint of a port.
func unanswered(port uint16) label.Problem {
	return label.Problem{
		Key: label.WeightKey, Value: "0", Reason: fmt.Sprintf("every endpoint of port %d has weight 0", port), InForce: noAnswer,
	}
}

// unweighted tells that weights are there which the policy ignores.
func (s *service) unweighted(ports []Port) []label.Problem {
	if s.settings.Balancing.Policy != label.Random {
		return nil
	}
	for _, p := range ports {
		for _, e := range p.Endpoints {
			if first := p.Endpoints[0]; e.Weight != first.Weight {
				return []label.Problem{{
					Key: label.PolicyKey, Value: s.labels[label.PolicyKey],
					Reason:  fmt.Sprintf("RANDOM ignores weights, and the endpoints of port %d have different ones, as %d and %d", p.Number, first.Weight, e.Weight),
					InForce: "the same share for each endpoint",
				}}
			}
		}
	}
	return nil
}

// candidates are the endpoints of a port that take new traffic, by family (true for IPv6), each address once.
//
// New traffic goes to ready endpoints. While there is none, it goes to those that are terminating and still serve, as
// kube-proxy does it: the last pod of a rollout answers until it is gone.
type candidates map[bool]map[netip.AddrPort]sliceEndpoint

// of returns those of one family: a pod of a dual-stack Service has an address of each, and counts once. It is the
// Service's first family, unless only the other has endpoints.
func (c candidates) of(v6 bool) map[netip.AddrPort]sliceEndpoint {
	if len(c[v6]) > 0 {
		return c[v6]
	}
	return c[!v6]
}

// candidates returns those of the port of that name.
func (m *Mesh) candidates(s *openService, portName string) candidates {
	all := candidates{false: {}, true: {}}
	for at, e := range m.endpointsOf(s, portName) {
		// The same endpoint is in two slices while it moves from one to the other.
		family := all[at.Addr().Is6()]
		if known, twice := family[at]; !twice || known.state < e.state {
			family[at] = e
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

// endpointsOf yields what the EndpointSlices of a Service say of the port of that name, an endpoint that moves from one to
// another twice, always in the same order.
func (m *Mesh) endpointsOf(s *openService, portName string) iter.Seq2[netip.AddrPort, sliceEndpoint] {
	return func(yield func(netip.AddrPort, sliceEndpoint) bool) {
		for _, o := range slices.SortedFunc(m.slicesOf.all(s.object), Object.Compare) {
			number, ok := m.slices[o].ports[portName]
			if !ok {
				continue
			}
			for _, e := range m.slices[o].endpoints {
				if !yield(netip.AddrPortFrom(e.address, number), e) {
					return
				}
			}
		}
	}
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
		for pod := range m.podsOf.all(o) {
			if !yield(pod) {
				return
			}
		}
		for replicaSet := range m.replicaSetsOf.all(o) {
			for pod := range m.podsOf.all(replicaSet) {
				if !yield(pod) {
					return
				}
			}
		}
	}
}
