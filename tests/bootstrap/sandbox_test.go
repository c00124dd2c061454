package bootstrap_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// A sandbox is the network namespace of a pod, connected to one that stands for the rest of the world.
type sandbox struct {
	pod, world ns.NetNS
	// ip is the pod's first address.
	ip string
}

func newSandbox(t *testing.T, sysctls ...string) *sandbox {
	t.Helper()
	s := &sandbox{pod: injected.NetNS(t), world: injected.NetNS(t), ip: podIPv4}
	injected.Inside(t, s.pod, func() error {
		for _, path := range sysctls {
			if err := os.WriteFile("/proc/sys/"+path, []byte("1"), 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	peer := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "pod0", PeerNamespace: netlink.NsFd(s.world.Fd())}
	injected.Inside(t, s.pod, func() error { return netlink.LinkAdd(peer) })
	withIPv6 := len(sysctls) == 0
	injected.Inside(t, s.world, func() error { return configure("pod0", nodeIPv4, nodeIPv6, false, true) })
	injected.Inside(t, s.pod, func() error { return configure("eth0", podIPv4, podIPv6, true, withIPv6) })
	return s
}

// configure gives a link its addresses and brings it and lo up.
func configure(name, ipv4, ipv6 string, isPod, withIPv6 bool) error {
	addresses := []string{ipv4 + "/24"}
	if withIPv6 {
		addresses = append(addresses, ipv6+"/64")
	}
	for _, l := range []string{"lo", name} {
		link, err := netlink.LinkByName(l)
		if err != nil {
			return err
		}
		if l == name {
			for _, a := range addresses {
				addr, err := netlink.ParseAddr(a)
				if err != nil {
					return err
				}
				addr.Flags = syscall.IFA_F_NODAD
				if err := netlink.AddrAdd(link, addr); err != nil {
					return fmt.Errorf("address %s: %w", a, err)
				}
			}
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
	}
	if !isPod {
		return nil
	}
	gateways := []string{nodeIPv4}
	if withIPv6 {
		gateways = append(gateways, nodeIPv6)
	}
	for _, gw := range gateways {
		if err := netlink.RouteAdd(&netlink.Route{Gw: net.ParseIP(gw)}); err != nil {
			return fmt.Errorf("route via %s: %w", gw, err)
		}
	}
	return nil
}

// client makes each request over a new connection from a network namespace.
func client(n ns.NetNS) *http.Client {
	return &http.Client{
		Timeout: 5 * time.Second,
		Transport: &http.Transport{
			DisableKeepAlives: true,
			DialContext: func(ctx context.Context, network, address string) (c net.Conn, err error) {
				err = n.Do(func(ns.NetNS) error {
					c, err = (&net.Dialer{}).DialContext(ctx, network, address)
					return err
				})
				return c, err
			},
		},
	}
}

// get returns status and body of a GET.
func get(n ns.NetNS, url string) (int, string, error) {
	return request(n, http.MethodGet, url, nil)
}

// post sends so many bytes.
func post(n ns.NetNS, url string, size int) (int, string, error) {
	return request(n, http.MethodPost, url, bytes.NewReader(make([]byte, size)))
}

func request(n ns.NetNS, method, url string, content io.Reader) (int, string, error) {
	req, err := http.NewRequest(method, url, content)
	if err != nil {
		return 0, "", err
	}
	res, err := client(n).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}
