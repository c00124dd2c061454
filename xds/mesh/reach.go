package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// This file says where clients reach an open port, and who has the address if two owners want it.

// claimsOf returns where an owner wants to be reached, sorted, and the first of its ports that the limit of addresses cuts,
// or 0. It depends on the owner and, if that is a headless Service, on its EndpointSlices and on the pods at the addresses.
func (m *Mesh) claimsOf(o Object) (list []claim, cut uint16) {
	var ports []portClaims
	if s := m.services[o]; s != nil {
		list, ports = s.reserved(), m.serviceClaims(s)
	}
	if p := m.pods[o]; p != nil {
		ports = p.claims(o)
	}
	shared, cut := share(ports, m.limit)
	list = wholes(append(list, shared...))
	slices.SortFunc(list, claim.compare)
	return list, cut
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

// reserved claims the whole of each cluster IP, whether a port is open or not.
func (s *service) reserved() []claim {
	var list []claim
	for _, address := range s.clusterIPs {
		list = append(list, claim{
			at: netip.AddrPortFrom(address, wholeAddress), owner: s.object, port: wholeAddress, right: clusterIP, created: s.created,
		})
	}
	return list
}

func (m *Mesh) serviceClaims(s *openService) []portClaims {
	var ports []portClaims
	for _, port := range s.open {
		p := portClaims{number: port.number}
		if s.headless() {
			p.claims = m.headlessClaims(s, port)
		} else {
			for address, right := range s.addresses() {
				p.claims = append(p.claims, claim{
					at: netip.AddrPortFrom(address, port.number), owner: s.object, port: port.number, right: right, created: s.created,
				})
			}
		}
		ports = append(ports, p)
	}
	return ports
}

// headlessClaims claims the address of each endpoint, ready or not. A pod that gets unready or terminates would lose its
// connections with its listener, which Kubernetes leaves it; and who dials the IP of one that is not ready means it. New
// traffic by the Service's name is kept off by DNS and by Port.Endpoints.
//
// The oldest pods are first: which of too many are open does not change when pods come. What is no pod comes last.
func (m *Mesh) headlessClaims(s *openService, port openPort) []claim {
	type aged struct {
		claim
		since int64
	}
	all := map[netip.AddrPort]aged{}
	for at, e := range m.endpointsOf(s, port.name) {
		right, since := m.rightTo(e, s.object.Namespace)
		if known, twice := all[at]; !twice || right < known.right {
			all[at] = aged{claim{at: at, owner: s.object, port: port.number, right: right, created: s.created}, since}
		}
	}
	var list []claim
	for _, by := range slices.SortedFunc(maps.Values(all), func(a, b aged) int {
		return cmp.Or(cmp.Compare(a.since, b.since), a.compare(b.claim))
	}) {
		list = append(list, by.claim)
	}
	return list
}

// rightTo returns the right of a headless Service of a namespace to the address of an endpoint, and since when it is the
// pod's that it should be.
func (m *Mesh) rightTo(e sliceEndpoint, namespace string) (right, int64) {
	if p := m.pods[e.pod]; p != nil && slices.Contains(p.addresses, e.address) {
		return ownEndpointIP, p.created
	}
	if m.podsAt.outside(namespace, e.address) != (Object{}) {
		return othersPodIP, math.MaxInt64
	}
	return endpointIP, math.MaxInt64
}

func (p *pod) claims(o Object) []portClaims {
	var ports []portClaims
	for _, number := range slices.Sorted(maps.Keys(p.settings.Ports)) {
		port := portClaims{number: number}
		for _, address := range p.addresses {
			port.claims = append(port.claims, claim{
				at: netip.AddrPortFrom(address, number), owner: o, port: number, right: ownIP, created: p.created,
			})
		}
		ports = append(ports, port)
	}
	return ports
}

// won returns where the port of an owner is its own, sorted, and tells of addresses that are another's.
func (m *Mesh) won(o Object, l labelled, port uint16) (won []netip.AddrPort, lost []label.Problem) {
	var others, own []loss
	for _, by := range m.claims.of[o] {
		if by.port != port {
			continue
		}
		switch winner := m.claims.winner(by); {
		case m.claims.won(by):
			won = append(won, by.at)
		case by.right == othersPodIP:
			others = append(others, loss{at: by.at, to: m.podOutside(o.Namespace, by.at)})
		case winner.owner == o:
			own = append(own, loss{at: by.at, to: winner})
		default:
			others = append(others, loss{at: by.at, to: winner})
		}
	}
	if len(others) > 0 {
		lost = append(lost, toOthers(l, port, others))
	}
	if len(own) > 0 {
		first := slices.MinFunc(own, func(a, b loss) int { return cmp.Compare(a.to.port, b.to.port) }).to.port
		lost = append(lost, l.problem(port, fmt.Sprintf("port %d leads to the same addresses", first), "the label of its port with the smaller number"))
	}
	return won, lost
}

// podOutside is what a pod of another namespace could claim at its address.
func (m *Mesh) podOutside(namespace string, at netip.AddrPort) claim {
	by := claim{at: at, right: ownIP, owner: m.podsAt.outside(namespace, at.Addr())}
	if p := m.pods[by.owner]; p != nil {
		by.created = p.created
	}
	return by
}

// A loss is an address that an owner claims and does not get.
type loss struct {
	at netip.AddrPort
	to claim
}

// toOthers tells whose the addresses are. It names the one whose owner came first, and does not count: the same must not be told
// again with each pod that comes or goes.
func toOthers(l labelled, port uint16, lost []loss) label.Problem {
	first := slices.MinFunc(lost, func(a, b loss) int {
		return cmp.Or(cmp.Compare(a.to.created, b.to.created), a.to.owner.Compare(b.to.owner), a.at.Compare(b.at))
	})
	if len(lost) == 1 {
		return l.problem(port, fmt.Sprintf("%s is already an address of %s", first.at, first.to.owner), "the other's labels, at this address")
	}
	reason := fmt.Sprintf("some of its addresses are already others', such as %s of %s", first.at, first.to.owner)
	return l.problem(port, reason, "the others' labels, at these addresses")
}
