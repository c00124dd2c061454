package cluster

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// plugCable joins the machine to the network namespace of process pid by one
// veth pair, and sends the cluster's load balancer addresses through it.
func (c *Cluster) plugCable(pid int) error {
	if err := c.checkRoutes(); err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = c.Link()
	veth := &netlink.Veth{LinkAttrs: attrs, PeerName: node.CableName, PeerNamespace: netlink.NsPid(pid)}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("add the link %s: %w", c.Link(), err)
	}
	if err := node.AddAddresses(c.Link(), c.MachineV4(), c.MachineV6()); err != nil {
		return err
	}
	for to, via := range map[netip.Prefix]netip.Prefix{c.BalancerV4(): c.NodeV4(), c.BalancerV6(): c.NodeV6()} {
		route := &netlink.Route{Dst: ipNet(to), Gw: via.Addr().AsSlice()}
		if err := netlink.RouteReplace(route); err != nil {
			return fmt.Errorf("add the route to %s through %s: %w", to, c.Link(), err)
		}
	}
	return nil
}

// unplugCable removes the link, if it is still there, and its routes with it.
func (c *Cluster) unplugCable() error {
	link, err := netlink.LinkByName(c.Link())
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find the link %s: %w", c.Link(), err)
	}
	if err := netlink.LinkDel(link); err != nil && !errors.As(err, &netlink.LinkNotFoundError{}) {
		return fmt.Errorf("remove the link %s: %w", c.Link(), err)
	}
	return nil
}

// checkRoutes refuses a subnet that the machine already reaches otherwise than
// by its default route.
func (c *Cluster) checkRoutes() error {
	routes, err := netlink.RouteList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the machine's routes: %w", err)
	}
	for _, route := range routes {
		if route.Dst == nil {
			continue
		}
		if ones, _ := route.Dst.Mask.Size(); ones == 0 {
			continue
		}
		for _, own := range []netip.Prefix{c.MachineV4(), c.MachineV6()} {
			if route.Dst.Contains(own.Addr().AsSlice()) || ipNet(own.Masked()).Contains(route.Dst.IP) {
				return fmt.Errorf("subnet %s clashes with the machine's route to %s; choose another with -net", own.Masked(), route.Dst)
			}
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
