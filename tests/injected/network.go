package injected

import (
	"bytes"
	"errors"
	"net"
	"sync"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
)

// Network makes a pod's network namespace and one for everything outside, joined by a cable whose ends have these
// addresses. The pod's way out is the first of the others.
func Network(t testing.TB, podAddress string, outsideAddresses ...string) (pod, outside ns.NetNS) {
	t.Helper()
	pod, outside = NetNS(t), NetNS(t)
	Inside(t, pod, func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(outside.Fd()),
		})
	})
	Inside(t, outside, func() error { return errors.Join(Up("lo"), Up("eth0", outsideAddresses...)) })
	Inside(t, pod, func() error {
		return errors.Join(Up("lo"), Up("eth0", podAddress), netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(outsideAddresses[0])}))
	})
	return pod, outside
}

// NetNS is a network namespace of the test.
func NetNS(t testing.TB) ns.NetNS {
	t.Helper()
	n, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// Inside does something in a network namespace.
func Inside(t testing.TB, n ns.NetNS, do func() error) {
	t.Helper()
	if err := n.Do(func(ns.NetNS) error { return do() }); err != nil {
		t.Fatal(err)
	}
}

// Up brings a link of the current network namespace up, with more addresses of a /24.
func Up(name string, addresses ...string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, address := range addresses {
		addr, err := netlink.ParseAddr(address + "/24")
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}

// An Output collects what a process writes while it runs.
type Output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write adds to what there is.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

// String is all that was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
