package mesh

import (
	"cmp"
	"math"
	"net/netip"
	"slices"
)

// A claim says that an owner has a port open at an address.
type claim struct {
	at    netip.AddrPort
	owner Object
	// port is the owner's number for it: two ports of a headless Service can lead to one port of its pods.
	port    uint16
	right   right
	created int64 // seconds
}

// A right is how an owner comes to an address; the smaller wins.
type right uint8

const (
	// clusterIP is the cluster's own assignment. Such addresses are unique but for the moment in which one passes to
	// another Service.
	clusterIP right = iota
	// ownIP is a pod's.
	ownIP
	// ownEndpointIP is the address of an endpoint of a headless Service that is a pod of its namespace and has this address.
	ownEndpointIP
	// externalIP is an external or load balancer address. Their authors name them freely: nobody takes a cluster IP or
	// a pod's address in this way.
	externalIP
	// endpointIP is the address of any other endpoint of a headless Service.
	endpointIP
	// othersPodIP is that of an endpoint that is a pod of another namespace, which any author of an EndpointSlice can name. It
	// wins nothing.
	othersPodIP
)

// compare orders claims by address, and those of one address by who wins: the stronger right, then the older owner.
func (c claim) compare(other claim) int {
	return cmp.Or(
		c.at.Compare(other.at),
		cmp.Compare(c.right, other.right),
		cmp.Compare(c.created, other.created),
		c.owner.Compare(other.owner),
		cmp.Compare(c.port, other.port),
	)
}

// wholeAddress stands for all ports of an address: who has a cluster IP has it for the ports that are not open, too, or
// another could open them in its name.
const wholeAddress = 0

// redirectCheck holds the addresses at which the Envoy of each pod answers traffic-verify. Whoever had one would keep every
// new pod from starting.
var redirectCheck = claim{
	owner: Object{Kind: "the redirect check", Name: "of every pod"}, right: clusterIP, created: math.MinInt64,
}

// redirectCheckIPs are those of package redirect; a test holds them to it.
var redirectCheckIPs = []netip.Addr{netip.MustParseAddr("198.51.100.100"), netip.MustParseAddr("2001:db8::c633:6464")}

// claims holds who claims what.
type claims struct {
	at map[netip.AddrPort][]claim // the winner first
	of map[Object][]claim         // sorted
}

func newClaims() claims {
	c := claims{at: map[netip.AddrPort][]claim{}, of: map[Object][]claim{}}
	for _, address := range redirectCheckIPs {
		by := redirectCheck
		by.at = netip.AddrPortFrom(address, wholeAddress)
		c.at[by.at] = []claim{by}
	}
	return c
}

// winner returns the claim that is granted where another asks.
func (c claims) winner(by claim) claim {
	if whole := c.at[netip.AddrPortFrom(by.at.Addr(), wholeAddress)]; len(whole) > 0 && whole[0].right == clusterIP && whole[0].owner != by.owner {
		return whole[0]
	}
	return c.at[by.at][0]
}

// won reports whether a claim is granted.
func (c claims) won(by claim) bool { return by.right != othersPodIP && c.winner(by) == by }

// replace exchanges the claims of an owner for others, sorted, and calls touched for each owner that claims an address
// of which the claims change.
func (c claims) replace(o Object, next []claim, touched func(Object)) {
	previous := c.of[o]
	if slices.Equal(previous, next) {
		return
	}
	for _, by := range without(previous, next) {
		c.remove(by)
		c.tell(by.at, touched)
	}
	for _, by := range without(next, previous) {
		i, _ := slices.BinarySearchFunc(c.at[by.at], by, claim.compare)
		c.at[by.at] = slices.Insert(c.at[by.at], i, by)
		c.tell(by.at, touched)
	}
	c.of[o] = next
	if len(next) == 0 {
		delete(c.of, o)
	}
	touched(o)
}

// without returns the claims that are not in the other list, which is sorted.
func without(list, other []claim) []claim {
	var rest []claim
	for _, by := range list {
		if _, both := slices.BinarySearchFunc(other, by, claim.compare); !both {
			rest = append(rest, by)
		}
	}
	return rest
}

func (c claims) remove(by claim) {
	c.at[by.at] = slices.DeleteFunc(c.at[by.at], func(other claim) bool { return other == by })
	if len(c.at[by.at]) == 0 {
		delete(c.at, by.at)
	}
}

func (c claims) tell(a netip.AddrPort, touched func(Object)) {
	for _, by := range c.at[a] {
		touched(by.owner)
	}
}
