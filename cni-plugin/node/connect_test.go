package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"k8s.io/client-go/tools/events"
)

// A network add-on that balances when pods connect makes labels useless without
// anything being broken: the node stays ready, and says which setting must change.
func TestTellsOfBalancingAtConnect(t *testing.T) {
	service, backend := netip.MustParseAddrPort("10.96.0.1:443"), netip.MustParseAddrPort("192.0.2.7:6443")
	var target atomic.Pointer[netip.AddrPort]
	target.Store(&backend)
	n := newNode(t)
	n.config.Service, n.config.VerifyInterval = service, 20*time.Millisecond
	n.conflist("10-net.conflist", bridge)
	n.runPod("web", injected)
	n.begin(func(a *Agent) {
		a.repairer.connect.target = func(ns.NetNS, netip.AddrPort) (netip.AddrPort, error) {
			if to := target.Load(); to != nil {
				return *to, nil
			}
			return netip.AddrPort{}, errors.New("net.ipv4.tcp_fastopen is 0")
		}
	})
	for _, text := range []string{"10.96.0.1:443 is sent to 192.0.2.7:6443", "socketLB.hostNamespaceOnly=true", "bpfConnectTimeLoadBalancing: Disabled"} {
		n.awaitEventOn("default", "node-1", reasonBypassed, text)
	}
	n.awaitReady()
	const gauge = "traffic_node_rewritten_connections "
	for _, step := range []struct {
		to   *netip.AddrPort
		want string
	}{{&service, "0"}, {&backend, "1"}, {nil, "0"}} {
		target.Store(step.to)
		n.await(fmt.Sprint(step.to), func() bool { return strings.Contains(n.get("/metrics"), gauge+step.want) })
	}
}

// A node that stays as it is has nothing new to say: the same warning at every look
// would bury everything else in the log.
func TestTellsOnce(t *testing.T) {
	service := netip.MustParseAddrPort("10.96.0.1:443")
	looks := uint64(0)
	for name, target := range map[string]func() (netip.AddrPort, error){
		"the kernel does not show the socket":      func() (netip.AddrPort, error) { return remote(nil, looks) },
		"the Service has more than one endpoint":   func() (netip.AddrPort, error) { return netip.AddrPortFrom(service.Addr(), uint16(6443+looks)), nil },
		"the socket cannot be connected to a host": func() (netip.AddrPort, error) { return netip.AddrPort{}, fmt.Errorf("connect to %s", service) },
	} {
		var log bytes.Buffer
		recorder := events.NewFakeRecorder(10)
		p := connectProbe{
			service: service, node: nodeReference("node-1"), reporter: reporter{recorder}, metrics: newMetrics(),
			log: slog.New(slog.NewTextHandler(&log, nil)),
			target: func(ns.NetNS, netip.AddrPort) (netip.AddrPort, error) {
				looks++
				return target()
			},
		}
		for range 3 {
			p.due = true
			p.look(nil)
			p.conclude()
		}
		if lines := strings.Count(log.String(), "level=WARN"); lines != 1 || len(recorder.Events) > 1 {
			t.Errorf("%s: %d events and these lines:\n%s", name, len(recorder.Events), log.String())
		}
	}
}

// The kernel's tables are the one place that the add-on does not rewrite back.
func TestRemote(t *testing.T) {
	for text, want := range map[string][]byte{
		"192.0.2.7:443":           {192, 0, 2, 7},
		"[2001:db8::7]:443":       netip.MustParseAddr("2001:db8::7").AsSlice(),
		"[fd00:1:2:3:4:5:6:7]:80": netip.MustParseAddr("fd00:1:2:3:4:5:6:7").AsSlice(),
	} {
		address := netip.MustParseAddrPort(text)
		words := ""
		for i := 0; i < len(want); i += 4 {
			words += fmt.Sprintf("%08X", binary.NativeEndian.Uint32(want[i:]))
		}
		table := fmt.Sprintf("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"+
			"   0: 0909F40A:B5C6 00000000:01BB 02 86756EFC:00000000 00:00000000 00000000     0        0 71539 1 000000005a86b0a9 100 0 0 10 -1\n"+
			"   1: 0909F40A:B5C7 %s:%04X 02 86756EFC:00000000 00:00000000 00000000     0        0 7153987 1 000000005a86b0a9 100 0 0 10 -1\n",
			words, address.Port())
		if got, err := remote([]byte(table), 7153987); err != nil || got != address {
			t.Errorf("%s: %s, %v", text, got, err)
		}
		if got, err := remote([]byte(table), 1); err == nil {
			t.Errorf("a socket that is not there is at %s", got)
		}
	}
}
