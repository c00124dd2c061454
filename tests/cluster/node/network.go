package node

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// Names of the node's own links.
const (
	CableName  = "eth0" // the node's end of the cable to the machine
	bridgeName = "cni0" // joins the pods
)

// settings of the node's network namespace. Packets between pods of one bridge
// must pass netfilter, or the reply to a Service's address comes from the pod's.
var settings = [][2]string{
	{"net/ipv4/ip_forward", "1"},
	{"net/ipv6/conf/all/forwarding", "1"},
	{"net/bridge/bridge-nf-call-iptables", "1"},
	{"net/bridge/bridge-nf-call-ip6tables", "1"},
}

// configureNetwork gives the node's links their addresses and routes.
func configureNetwork(p *plan.Plan) error {
	for _, s := range settings {
		err := os.WriteFile(filepath.Join("/proc/sys", s[0]), []byte(s[1]), 0o644)
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is missing; the kernel needs IPv6 and br_netfilter", s[0])
		}
		if err != nil {
			return fmt.Errorf("set %s=%s: %w", s[0], s[1], err)
		}
	}
	if err := setUp("lo"); err != nil {
		return err
	}
	if err := AddAddresses(CableName, p.NodeV4(), p.NodeV6()); err != nil {
		return err
	}
	for _, gateway := range []netip.Addr{p.MachineV4().Addr(), p.MachineV6().Addr()} {
		if err := netlink.RouteReplace(&netlink.Route{Dst: defaultRoute(gateway), Gw: gateway.AsSlice()}); err != nil {
			return fmt.Errorf("add the node's default route through %s: %w", gateway, err)
		}
	}
	return addBridge()
}

func defaultRoute(gateway netip.Addr) *net.IPNet {
	if gateway.Is4() {
		return &net.IPNet{IP: net.IPv4zero, Mask: net.CIDRMask(0, 32)}
	}
	return &net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
}

// bridgeMAC stays as it is. A bridge without one of its own takes a pod's, and
// changes it when that pod goes, and then all others send into the void until
// they ask again.
var bridgeMAC = net.HardwareAddr{0x02, 0x00, 0x0a, 0xf4, 0x00, 0x01}

// addBridge makes the pods' bridge before the first pod does, so that its IPv6
// address is there at once, without the second that looking for duplicates takes.
func addBridge() error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = bridgeName, bridgeMAC
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("add the bridge %s: %w", bridgeName, err)
	}
	v4 := firstAddress(plan.PodCIDRv4, plan.NodeMaskV4)
	v6 := firstAddress(plan.PodCIDRv6, plan.NodeMaskV6)
	return AddAddresses(bridgeName, v4, v6)
}

// firstAddress is the first address of the node's share of cidr.
func firstAddress(cidr string, bits int) netip.Prefix {
	return netip.PrefixFrom(netip.MustParsePrefix(cidr).Addr().Next(), bits)
}

// AddAddresses gives a link its addresses, if it has them not, and brings it
// up. IPv6 addresses are usable at once.
func AddAddresses(name string, prefixes ...netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", name, err)
	}
	for _, prefix := range prefixes {
		addr := &netlink.Addr{IPNet: &net.IPNet{
			IP:   prefix.Addr().AsSlice(),
			Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen()),
		}}
		if prefix.Addr().Is6() {
			addr.Flags = unix.IFA_F_NODAD
		}
		if err := netlink.AddrReplace(link, addr); err != nil {
			return fmt.Errorf("add %s to the link %s: %w", prefix, name, err)
		}
	}
	return setUp(name)
}

func setUp(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring the link %s up: %w", name, err)
	}
	return nil
}
