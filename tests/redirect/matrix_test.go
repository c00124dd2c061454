package redirect_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// backends are all there are; auto is one of them.
var backends = []string{"nftables", "iptables-nft", "iptables-legacy"}

const (
	proxyUID  = 1337
	proxyPort = 10000
)

// Who answers.
const (
	proxy   = "proxy"   // our port in the pod, and it sees the address that was dialled
	outside = "outside" // the address that was dialled, outside the pod
	local   = "local"   // another port in the pod
	refused = "refused" // nobody, at once
)

// cell is one connection and who must answer it.
type cell struct {
	what string
	uid  uint32
	from string // pod, or outside
	target
	want string
}

// excluding is the spec of the exclusion cells.
var excluding = redirect.Spec{
	Version: 1, ProxyUID: proxyUID, ProxyPort: proxyPort,
	ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("10.76.0.0/15"), netip.MustParsePrefix("10.78.0.5/32"), netip.MustParsePrefix("fd76::/15"), netip.MustParsePrefix("fd78::5/128")},
	ExcludePorts: []redirect.PortRange{{From: 3306, To: 3306}, {From: 8000, To: 8010}},
}

var plain = redirect.Spec{Version: 1, ProxyUID: proxyUID, ProxyPort: proxyPort}

var excludingAll = redirect.Spec{
	Version: 1, ProxyUID: proxyUID, ProxyPort: proxyPort,
	ExcludeCIDRs: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")},
	ExcludePorts: []redirect.PortRange{{From: 1, To: 65535}},
}

// ports that are served outside, and by the pod itself.
var (
	outsidePorts = []uint16{53, 80, 443, 3306, 5353, 7999, 8000, 8005, 8010, 8011, proxyPort}
	localPorts   = []uint16{80, 8081}
)

// addresses by family.
var (
	loopback = map[int]string{4: "127.0.0.1", 6: "::1"}
	someone  = map[int]string{4: "10.96.0.10", 6: "fd96::10"}
	verify   = map[int]string{4: redirect.VerifyIPv4, 6: redirect.VerifyIPv6}
	podAddr  = map[int]string{4: "10.99.0.2", 6: "fd99::2"}
	gateway  = map[int]string{4: "10.99.0.1", 6: "fd99::1"}
	excluded = map[int]string{4: "10.76.0.0", 6: "fd76::"} // first of a range
)

func at(addr string, port uint16) string {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), port).String()
}

// plainCells hold for every spec without exclusions.
func plainCells(f int) []cell {
	cells := []cell{
		{"app to a service", 1000, "pod", target{"tcp", at(someone[f], 80)}, proxy},
		{"app to a service, TLS port", 1000, "pod", target{"tcp", at(someone[f], 443)}, proxy},
		{"app to the node", 1000, "pod", target{"tcp", at(gateway[f], 80)}, proxy},
		{"app to the proxy's port elsewhere", 1000, "pod", target{"tcp", at(someone[f], proxyPort)}, proxy},
		{"root to a service", 0, "pod", target{"tcp", at(someone[f], 80)}, proxy},
		{"user next to the proxy's", proxyUID + 1, "pod", target{"tcp", at(someone[f], 80)}, proxy},
		{"largest uid", 4294967294, "pod", target{"tcp", at(someone[f], 80)}, proxy},
		{"proxy to a service", proxyUID, "pod", target{"tcp", at(someone[f], 80)}, outside},
		{"proxy to the verify address", proxyUID, "pod", target{"tcp", at(verify[f], 80)}, outside},
		{"proxy to its pod", proxyUID, "pod", target{"tcp", at(podAddr[f], 8081)}, local},
		{"app to itself by loopback", 1000, "pod", target{"tcp", at(loopback[f], 8081)}, local},
		{"app to itself by pod address", 1000, "pod", target{"tcp", at(podAddr[f], 8081)}, local},
		{"app to port 80 of itself", 1000, "pod", target{"tcp", at(loopback[f], 80)}, local},
		{"app to the verify address", 1000, "pod", target{"tcp", at(verify[f], 80)}, proxy},
		{"DNS over UDP", 1000, "pod", target{"udp", at(someone[f], 53)}, outside},
		{"DNS over TCP", 1000, "pod", target{"tcp", at(someone[f], 53)}, outside},
		{"other UDP", 1000, "pod", target{"udp", at(someone[f], 5353)}, outside},
		{"UDP on a TCP port", 1000, "pod", target{"udp", at(someone[f], 80)}, outside},
		{"outside to the app", 0, "outside", target{"tcp", at(podAddr[f], 8081)}, local},
		{"outside to the proxy's port", 0, "outside", target{"tcp", at(podAddr[f], proxyPort)}, refused},
		{"proxy uid outside to the proxy's port", proxyUID, "outside", target{"tcp", at(podAddr[f], proxyPort)}, refused},
	}
	return cells
}

// exclusionCells hold for the spec excluding.
func exclusionCells(f int) []cell {
	last := map[int]string{4: "10.77.255.255", 6: "fd77:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
	before := map[int]string{4: "10.75.255.255", 6: "fd75:ffff:ffff:ffff:ffff:ffff:ffff:ffff"}
	after := map[int]string{4: "10.78.0.0", 6: "fd78::"}
	one := map[int]string{4: "10.78.0.5", 6: "fd78::5"}
	besideOne := map[int]string{4: "10.78.0.4", 6: "fd78::4"}
	cells := []cell{
		{"first address of an excluded range", 1000, "pod", target{"tcp", at(excluded[f], 80)}, outside},
		{"last address of an excluded range", 1000, "pod", target{"tcp", at(last[f], 80)}, outside},
		{"address before an excluded range", 1000, "pod", target{"tcp", at(before[f], 80)}, proxy},
		{"address after an excluded range", 1000, "pod", target{"tcp", at(after[f], 80)}, proxy},
		{"one excluded address", 1000, "pod", target{"tcp", at(one[f], 80)}, outside},
		{"address beside an excluded one", 1000, "pod", target{"tcp", at(besideOne[f], 80)}, proxy},
		{"UDP to an excluded range", 1000, "pod", target{"udp", at(excluded[f], 80)}, outside},
		{"root to an excluded range", 0, "pod", target{"tcp", at(excluded[f], 443)}, outside},
		{"excluded port", 1000, "pod", target{"tcp", at(someone[f], 3306)}, outside},
		{"first port of an excluded range", 1000, "pod", target{"tcp", at(someone[f], 8000)}, outside},
		{"port in an excluded range", 1000, "pod", target{"tcp", at(someone[f], 8005)}, outside},
		{"last port of an excluded range", 1000, "pod", target{"tcp", at(someone[f], 8010)}, outside},
		{"port before an excluded range", 1000, "pod", target{"tcp", at(someone[f], 7999)}, proxy},
		{"port after an excluded range", 1000, "pod", target{"tcp", at(someone[f], 8011)}, proxy},
		{"verify address on an excluded port", 1000, "pod", target{"tcp", at(verify[f], 3306)}, proxy},
	}
	return append(cells, plainCells(f)...)
}

// excludedAllCells hold when everything is excluded: what proves the redirect
// still works, and the proxy's port stays closed.
func excludedAllCells(f int) []cell {
	return []cell{
		{"app to a service, all excluded", 1000, "pod", target{"tcp", at(someone[f], 80)}, outside},
		{"app to the verify address, all excluded", 1000, "pod", target{"tcp", at(verify[f], 80)}, proxy},
		{"outside to the proxy's port, all excluded", 0, "outside", target{"tcp", at(podAddr[f], proxyPort)}, refused},
	}
}

// noRulesCells hold before ADD and after DEL; they prove that the cells above
// see the rules and not the wiring.
func noRulesCells(f int) []cell {
	return []cell{
		{"app to a service, no rules", 1000, "pod", target{"tcp", at(someone[f], 80)}, outside},
		{"app to the verify address, no rules", 1000, "pod", target{"tcp", at(verify[f], 80)}, outside},
		{"outside to the proxy's port, no rules", 0, "outside", target{"tcp", at(podAddr[f], proxyPort)}, proxy},
	}
}

// An app whose connection goes where this table does not say is unmanaged, or
// cut off.
func TestMatrix(t *testing.T) {
	for _, f := range []families{dualStack, onlyV4, onlyV6, noV6} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			w := newServedWorld(t, f)
			n := w.try(f, noRulesCells)
			for _, backend := range backends {
				n += w.lifecycle(backend, f)
			}
			fmt.Printf("matrix, %s: %d cells\n", f.name, n)
		})
	}
}

// newServedWorld is a world in which every port of the cells is served.
func newServedWorld(t testing.TB, f families) *world {
	return serve(newWorld(t, f), f)
}

func serve(w *world, f families) *world {
	for _, port := range outsidePorts {
		w.serve(w.outside, outside, port)
	}
	for _, family := range f.all() {
		for _, udp := range []string{at(someone[family], 53), at(someone[family], 80), at(someone[family], 5353), at(excluded[family], 80)} {
			w.servePackets(w.outside, outside, udp)
		}
	}
	for _, port := range localPorts {
		w.serve(w.pod, local, port)
	}
	w.serve(w.pod, proxy, proxyPort)
	return w
}

// lifecycle goes through what a runtime does with a pod, tries every cell after
// each step and returns how many they were. It leaves no rules.
func (w *world) lifecycle(backend string, f families) int {
	w.Helper()
	with := func(s redirect.Spec) runtime {
		return newRuntime(w, "1.1.0", path(w.pod), encode(w, s), plugin.NewEntry(backend, false))
	}
	n := 0
	try := func(step string, cellsOf func(int) []cell) {
		w.Helper()
		w.step = backend + ", " + step
		n += w.try(f, cellsOf)
	}
	with(plain).mustDel(w) // of nothing
	with(plain).mustAdd(w)
	try("ADD", plainCells)
	with(plain).mustAdd(w)
	try("ADD again", plainCells)
	with(excluding).mustAdd(w)
	try("ADD with exclusions", exclusionCells)
	with(excludingAll).mustAdd(w)
	try("ADD with everything excluded", excludedAllCells)
	with(plain).mustDel(w)
	with(plain).mustDel(w) // twice
	try("DEL", noRulesCells)
	return n
}

// try dials the cells of each family, one process a user and place.
func (w *world) try(f families, cellsOf func(int) []cell) int {
	w.Helper()
	type origin struct {
		from string
		uid  uint32
	}
	groups := map[origin][]cell{}
	n := 0
	for _, family := range f.all() {
		for _, c := range cellsOf(family) {
			o := origin{c.from, c.uid}
			groups[o] = append(groups[o], c)
			n++
		}
	}
	for o, cells := range groups {
		from := map[string]ns.NetNS{"pod": w.pod, "outside": w.outside}[o.from]
		var targets []target
		for _, c := range cells {
			targets = append(targets, c.target)
		}
		for i, answer := range w.dial(from, o.uid, targets) {
			if c := cells[i]; !c.answeredBy(answer) {
				w.Errorf("%s: %s (user %d, %s %s): answer %q, want %s", w.step, c.what, c.uid, c.Network, c.Addr, answer, c.want)
			}
		}
	}
	return n
}

// answeredBy reads an answer; a proxy must also have seen the address dialled.
func (c cell) answeredBy(answer string) bool {
	switch {
	case c.want == refused:
		return strings.HasSuffix(answer, "connection refused")
	case c.Network == "udp":
		return answer == c.want
	}
	return answer == c.want+" "+c.Addr
}
