package mesh

import (
	"cmp"
	"net/netip"
	"slices"
)

// A claim says that a Service has a port open at an address. Cluster IPs are unique but for the moment in which one
// passes to another Service; external addresses can be claimed twice for ever.
type claim struct {
	service Object
	// clusterIP claims win over others, so that nobody takes a cluster IP by naming it as an external address.
	clusterIP bool
	created   int64
}

func (c claim) compare(other claim) int {
	switch {
	case c.clusterIP && !other.clusterIP:
		return -1
	case !c.clusterIP && other.clusterIP:
		return 1
	}
	return cmp.Or(cmp.Compare(c.created, other.created), c.service.Compare(other.service))
}

// claims holds who claims an address and port, the winner first.
type claims map[netip.AddrPort][]claim

func (c claims) winner(a netip.AddrPort) Object {
	if len(c[a]) == 0 {
		return Object{}
	}
	return c[a][0].service
}

func (c claims) add(a netip.AddrPort, by claim) {
	at, _ := slices.BinarySearchFunc(c[a], by, claim.compare)
	c[a] = slices.Insert(c[a], at, by)
}

func (c claims) remove(a netip.AddrPort, by claim) {
	c[a] = slices.DeleteFunc(c[a], func(other claim) bool { return other == by })
	if len(c[a]) == 0 {
		delete(c, a)
	}
}

// replace exchanges the claims of a Service's old state for those of its new one, either of which may be nil, and calls
// touched for each Service that claims one of these addresses.
func (c claims) replace(previous, next *openService, touched func(Object)) {
	for _, s := range []*openService{previous, next} {
		for address, by := range s.claims() {
			if s == previous {
				c.remove(address, by)
			} else {
				c.add(address, by)
			}
			for _, other := range c[address] {
				touched(other.service)
			}
		}
	}
}
