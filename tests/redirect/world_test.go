package redirect_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// world is a pod and everything it can reach: two network namespaces and a
// cable. Many addresses outside are answered by the same listeners.
type world struct {
	testing.TB
	pod, outside ns.NetNS
	step         string // that the test is at, for its messages
	// users gives the node's number of a user of the pod.
	users func(uint32) uint32
}

// families of a pod.
type families struct {
	name   string
	v4, v6 bool
	v6Off  bool // switched off by sysctl, as on nodes without IPv6
}

var (
	dualStack = families{name: "dual stack", v4: true, v6: true}
	onlyV4    = families{name: "IPv4 only", v4: true}
	onlyV6    = families{name: "IPv6 only", v6: true}
	noV6      = families{name: "IPv6 switched off", v4: true, v6Off: true}
)

func (f families) all() []int {
	var all []int
	if f.v4 {
		all = append(all, 4)
	}
	if f.v6 {
		all = append(all, 6)
	}
	return all
}

func newNamespace(t testing.TB) ns.NetNS {
	t.Helper()
	n, err := ns.TempNetNS()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// path names a namespace for another process.
func path(n ns.NetNS) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.Fd())
}

func newWorld(t testing.TB, f families) *world {
	t.Helper()
	return wire(t, newNamespace(t), f)
}

// wire makes a pod's network in its namespace.
func wire(t testing.TB, pod ns.NetNS, f families) *world {
	t.Helper()
	w := &world{TB: t, pod: pod, outside: newNamespace(t), users: func(uid uint32) uint32 { return uid }}
	w.in(w.pod, func() error {
		if f.v6Off {
			for _, conf := range []string{"all", "default"} {
				if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+conf+"/disable_ipv6", []byte("1"), 0); err != nil {
					return err
				}
			}
		}
		cable := netlink.NewVeth(netlink.LinkAttrs{Name: "eth0"})
		cable.PeerName, cable.PeerNamespace = "eth0", netlink.NsFd(w.outside.Fd())
		return errors.Join(netlink.LinkAdd(cable), up("lo"), up("eth0"))
	})
	w.in(w.outside, func() error {
		// Addresses that are only routed here can be bound, as those of IPv4 can.
		return errors.Join(up("lo"), up("eth0"), os.WriteFile("/proc/sys/net/ipv6/ip_nonlocal_bind", []byte("1"), 0))
	})
	if f.v4 {
		w.address("10.99.0.2/24", "10.99.0.1/24", "10.72.0.0/13", "10.96.0.0/16", "198.51.100.0/24")
	}
	if f.v6 {
		w.address("fd99::2/64", "fd99::1/64", "fd70::/12", "fd96::/16", "2001:db8::/32")
	}
	return w
}

// address gives both ends of the cable an address of one family, sends all of it
// from the pod to the outside, and lets the outside answer for some networks.
func (w *world) address(pod, outside string, networks ...string) {
	w.Helper()
	w.in(w.pod, func() error {
		gateway := netip.MustParsePrefix(outside).Addr()
		link, err := assign("eth0", pod)
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice()})
	})
	w.in(w.outside, func() error {
		if _, err := assign("eth0", outside); err != nil {
			return err
		}
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		for _, network := range networks {
			_, dst, err := net.ParseCIDR(network)
			if err != nil {
				return err
			}
			if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Table: unix.RT_TABLE_LOCAL}); err != nil {
				return err
			}
		}
		return nil
	})
}

func assign(link, cidr string) (netlink.Link, error) {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return nil, err
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return nil, err
	}
	addr.Flags = unix.IFA_F_NODAD // usable at once
	return l, netlink.AddrAdd(l, addr)
}

func up(link string) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(l)
}

// in runs do on a thread in a namespace.
func (w *world) in(n ns.NetNS, do func() error) {
	w.Helper()
	if err := n.Do(func(ns.NetNS) error { return do() }); err != nil {
		w.Fatal(err)
	}
}

// serve answers every TCP connection to a port, whatever its address, with a
// word about who it is and the address that the client meant.
func (w *world) serve(n ns.NetNS, who string, port uint16) {
	w.Helper()
	w.in(n, func() error {
		l, err := net.Listen("tcp", ":"+strconv.Itoa(int(port)))
		if err != nil {
			return err
		}
		w.Cleanup(func() { l.Close() })
		go answerStreams(l, who)
		return nil
	})
}

// servePackets answers UDP packets; the answer comes from the address that was
// asked, which is therefore bound.
func (w *world) servePackets(n ns.NetNS, who, addr string) {
	w.Helper()
	w.in(n, func() error {
		p, err := net.ListenPacket("udp", addr)
		if err != nil {
			return err
		}
		w.Cleanup(func() { p.Close() })
		go answerPackets(p, who)
		return nil
	})
}

func answerStreams(l net.Listener, who string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		dialled := c.LocalAddr().String()
		if original, err := originalDst(c.(*net.TCPConn)); err == nil {
			dialled = original.String()
		}
		fmt.Fprintf(c, "%s %s", who, dialled)
		c.Close()
	}
}

func answerPackets(p net.PacketConn, who string) {
	buf := make([]byte, 64)
	for {
		_, from, err := p.ReadFrom(buf)
		if err != nil {
			return
		}
		_, _ = p.WriteTo([]byte(who), from)
	}
}

// originalDst is SO_ORIGINAL_DST: where a connection was going before the
// kernel redirected it. The option has the same number for both families.
func originalDst(c *net.TCPConn) (netip.AddrPort, error) {
	const soOriginalDst = 80
	raw, err := c.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var dst netip.AddrPort
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		if c.LocalAddr().(*net.TCPAddr).IP.To4() != nil {
			var a *unix.IPv6Mreq // the first 16 bytes are a sockaddr_in
			if a, sockErr = unix.GetsockoptIPv6Mreq(int(fd), syscall.IPPROTO_IP, soOriginalDst); sockErr == nil {
				b := a.Multiaddr
				dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
			}
			return
		}
		var a *unix.IPv6MTUInfo // begins with a sockaddr_in6
		if a, sockErr = unix.GetsockoptIPv6MTUInfo(int(fd), syscall.IPPROTO_IPV6, soOriginalDst); sockErr == nil {
			port := a.Addr.Port // in network order
			dst = netip.AddrPortFrom(netip.AddrFrom16(a.Addr.Addr), port<<8|port>>8)
		}
	})
	return dst, errors.Join(err, sockErr)
}
