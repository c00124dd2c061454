package mesh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// This file says where clients reach an open port, and who has the address if two owners want it.

// maxHeadless is how many addresses of one headless Service can be open, all its ports together. Each costs every
// injected pod a listener, some 25 kB of its Envoy's memory whether it is ever used or not: a thousand are 25 MB, a fifth
// of what the chart requests for a sidecar. What is beyond stays blocked, by the Service's name too: a headless name
// resolves to the very addresses that are closed, and the client cannot be led elsewhere without a listener there.
const maxHeadless = 1000

// claimsOf returns where an owner wants to be reached, sorted. It depends on the owner and, if that is a headless
// Service, on its EndpointSlices.
func (m *Mesh) claimsOf(o Object) []claim {
	var list []claim
	if s := m.services[o]; s != nil {
		list = m.serviceClaims(s)
	}
	if p := m.pods[o]; p != nil {
		list = p.claims(o)
	}
	slices.SortFunc(list, claim.compare)
	return list
}

// wholes adds a claim to the whole of each address: only one of a cluster IP wins anything, the others are there so that
// their owners hear of it when an address becomes a cluster IP.
func wholes(list []claim) []claim {
	seen := map[netip.Addr]bool{}
	for _, by := range slices.Clone(list) {
		a := by.at.Addr()
		if !seen[a] && by.port != wholeAddress {
			by.at, by.port = netip.AddrPortFrom(a, wholeAddress), wholeAddress
			list = append(list, by)
		}
		seen[a] = true
	}
	return list
}

func (m *Mesh) serviceClaims(s *openService) []claim {
	var list []claim
	for _, address := range s.clusterIPs { // open or not
		list = append(list, claim{
			at: netip.AddrPortFrom(address, wholeAddress), owner: s.object, port: wholeAddress, right: clusterIP, created: s.created,
		})
	}
	for _, port := range s.open {
		by := claim{owner: s.object, port: port.number, created: s.created, right: endpointIP}
		if s.headless() {
			all := m.headlessAddresses(s, port.name)
			for _, by.at = range all[:min(len(all), maxHeadless-len(list))] {
				list = append(list, by)
			}
			continue
		}
		for address, right := range s.addresses() {
			by.at, by.right = netip.AddrPortFrom(address, port.number), right
			list = append(list, by)
		}
	}
	return wholes(list)
}

// headlessAddresses returns where the endpoints of a headless Service's port are, ready or not. A pod that gets unready or
// terminates would lose its connections with its listener, which Kubernetes leaves it; and who dials the IP of one that is
// not ready means it. New traffic by the Service's name is kept off by DNS and by Port.Endpoints.
func (m *Mesh) headlessAddresses(s *openService, portName string) []netip.AddrPort {
	var all []netip.AddrPort
	for at := range m.endpointsOf(s, portName) {
		all = append(all, at)
	}
	slices.SortFunc(all, netip.AddrPort.Compare)
	return slices.Compact(all)
}

func (p *pod) claims(o Object) []claim {
	var list []claim
	for number := range p.settings.Ports {
		for _, address := range p.addresses {
			list = append(list, claim{
				at: netip.AddrPortFrom(address, number), owner: o, port: number, right: ownIP, created: p.created,
			})
		}
	}
	return wholes(list)
}

// won returns where the port of an owner is its own, sorted, and tells of addresses that are another's.
func (m *Mesh) won(o Object, l labelled, port uint16) (won []netip.AddrPort, lost []label.Problem) {
	others := map[Object][]netip.AddrPort{}
	for _, by := range m.claims.of[o] {
		if by.port != port {
			continue
		}
		if m.claims.won(by) {
			won = append(won, by.at)
		} else {
			winner := m.claims.winner(by)
			others[winner] = append(others[winner], by.at)
		}
	}
	for _, other := range slices.SortedFunc(maps.Keys(others), Object.Compare) {
		at := others[other]
		reason, inForce := fmt.Sprintf("%s is already an address of %s", at[0], other), "the other's labels, at this address"
		if len(at) > 1 {
			reason = fmt.Sprintf("%s and %d more are already addresses of %s", at[0], len(at)-1, other)
			inForce = "the other's labels, at these addresses"
		}
		if other == o {
			inForce = "the label of its port with the smaller number"
		}
		lost = append(lost, l.problem(port, reason, inForce))
	}
	return won, lost
}

// beyond tells how many of the addresses of a headless Service's port are closed because it has too many.
func (m *Mesh) beyond(s *openService, port uint16, all int) []label.Problem {
	open := 0
	for _, by := range m.claims.of[s.object] {
		if by.port == port {
			open++
		}
	}
	if open == all {
		return nil
	}
	reason := fmt.Sprintf("%d of its %d addresses are beyond the %d that a headless Service can have open: split it, or give it a cluster IP",
		all-open, all, maxHeadless)
	return []label.Problem{s.problem(port, reason, "these addresses are blocked")}
}
