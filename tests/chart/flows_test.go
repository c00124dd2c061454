package chart

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// A flow is a TCP connection of the local cluster: from a party to a port of another, behind any Service.
type flow struct {
	from, to party
	port     int32
}

// The policies are read against the connections that the installed programs really have: what they would cut, and the
// cluster's network does not enforce any, shows here.
func TestPoliciesLetPassWhatTheClusterDoes(t *testing.T) {
	all := policies(decode[networkingv1.NetworkPolicy](t, template(t, "--set", "networkPolicies.enabled=true"), "NetworkPolicy"))
	wanted := []string{
		"traffic-ingress > traffic-control:18000", "traffic-control > node:6443", "traffic-prometheus > node:6443", "traffic-prometheus > node:18001",
		"traffic-prometheus > traffic-control:8080", "traffic-prometheus > traffic-webhook:8080", "traffic-prometheus > traffic-ingress:8900",
	}
	seen := map[string]bool{}
	missing := func(flow string) bool { return !seen[flow] }
	// Prometheus, if it has just begun, connects within its scrape interval.
	for deadline := time.Now().Add(30 * time.Second); slices.ContainsFunc(wanted, missing) && time.Now().Before(deadline); {
		for _, f := range flows(t) {
			what := fmt.Sprintf("%s > %s:%d", f.from.name(), f.to.name(), f.port)
			if seen[what] = true; !all.allow(t, f.from, f.to, f.port) {
				t.Fatalf("the policies cut %s (%s to %s)", what, f.from.addr, f.to.addr)
			}
		}
	}
	if slices.ContainsFunc(wanted, missing) {
		t.Errorf("connections are %v\nwant %q among them", slices.Sorted(maps.Keys(seen)), wanted)
	}
}

func (p party) name() string {
	if name := p.labels["app.kubernetes.io/name"]; name != "" {
		return name
	}
	return p.labels["app"]
}

// flows are the connections of the release's pods, but for those from the node itself, which policies do not stop.
func flows(t *testing.T) []flow {
	t.Helper()
	parties, behind := parties(t)
	party := func(addr netip.Addr) party {
		known, there := parties[addr]
		if !there {
			known.addr = addr
		}
		return known
	}
	var all []flow
	for addr, self := range parties {
		if self.namespace != namespace {
			continue
		}
		listening, connections := sockets(t, self.uid)
		for _, c := range connections {
			local, remote := c[0], c[1]
			if local.Addr() != addr || remote.Addr() == addr {
				continue
			}
			if listening[local.Port()] {
				if other := party(remote.Addr()); other.namespace != "" {
					all = append(all, flow{other, self, int32(local.Port())})
				}
				continue
			}
			if endpoint, isService := behind[remote]; isService {
				remote = endpoint
			}
			all = append(all, flow{self, party(remote.Addr()), int32(remote.Port())})
		}
	}
	return all
}

// parties are the cluster's pods and its node, where the API server is, by address, and an endpoint for each port of a Service.
func parties(t *testing.T) (map[netip.Addr]party, map[netip.AddrPort]netip.AddrPort) {
	t.Helper()
	all := map[netip.Addr]party{}
	for _, node := range list[corev1.NodeList](t, "nodes").Items {
		for _, a := range node.Status.Addresses {
			if addr, err := netip.ParseAddr(a.Address); err == nil {
				all[addr] = party{addr: addr, labels: map[string]string{"app": "node"}}
			}
		}
	}
	for _, pod := range list[corev1.PodList](t, "pods").Items {
		for _, ip := range pod.Status.PodIPs {
			if addr := netip.MustParseAddr(ip.IP); !pod.Spec.HostNetwork && pod.Status.Phase == corev1.PodRunning {
				all[addr] = party{namespace: pod.Namespace, labels: pod.Labels, addr: addr, uid: string(pod.UID)}
			}
		}
	}
	behind := map[netip.AddrPort]netip.AddrPort{}
	endpoints := list[discoveryv1.EndpointSliceList](t, "endpointslices").Items
	for _, service := range list[corev1.ServiceList](t, "services").Items {
		for _, slice := range endpoints {
			if slice.Namespace == service.Namespace && slice.Labels[discoveryv1.LabelServiceName] == service.Name {
				translate(behind, service, slice)
			}
		}
	}
	return all, behind
}

func translate(behind map[netip.AddrPort]netip.AddrPort, service corev1.Service, slice discoveryv1.EndpointSlice) {
	for _, ip := range service.Spec.ClusterIPs {
		addr, err := netip.ParseAddr(ip)
		if err != nil || len(slice.Endpoints) == 0 {
			continue
		}
		endpoint := netip.MustParseAddr(slice.Endpoints[0].Addresses[0])
		for _, port := range service.Spec.Ports {
			for _, target := range slice.Ports {
				if *target.Name == port.Name && addr.Is4() == endpoint.Is4() {
					behind[netip.AddrPortFrom(addr, uint16(port.Port))] = netip.AddrPortFrom(endpoint, uint16(*target.Port))
				}
			}
		}
	}
}

func list[T any](t *testing.T, kind string) T {
	t.Helper()
	out, err := ask(t, "", "get", kind, "--all-namespaces", "--output=json")
	if err != nil {
		t.Fatalf("kubectl get %s: %v\n%s", kind, err, out)
	}
	var all T
	if err := json.Unmarshal([]byte(out), &all); err != nil {
		t.Fatal(err)
	}
	return all
}

// sockets are the ports at which a pod listens, and its connections, each as its own end and the other one.
func sockets(t *testing.T, uid string) (listening map[uint16]bool, connections [][2]netip.AddrPort) {
	t.Helper()
	listening = map[uint16]bool{}
	for _, file := range []string{"tcp", "tcp6"} {
		text, err := os.ReadFile(filepath.Join(process(t, uid), "net", file))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			fields := strings.Fields(line)
			switch state := fields[3]; state {
			case "0A": // listening
				listening[endpoint(t, fields[1]).Port()] = true
			case "01": // established
				connections = append(connections, [2]netip.AddrPort{endpoint(t, fields[1]), endpoint(t, fields[2])})
			}
		}
	}
	return listening, connections
}

// process is the folder in /proc of a process of a pod.
func process(t *testing.T, uid string) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), "pod"+uid) {
			return filepath.Dir(file)
		}
	}
	t.Fatalf("no process runs in the pod %s", uid)
	return ""
}

// endpoint reads an address as the kernel prints it: words of 32 bits in the machine's own order.
func endpoint(t *testing.T, text string) netip.AddrPort {
	t.Helper()
	host, port, _ := strings.Cut(text, ":")
	addr, err := hex.DecodeString(host)
	if err != nil {
		t.Fatal(err)
	}
	for word := range slices.Chunk(addr, 4) {
		binary.BigEndian.PutUint32(word, binary.NativeEndian.Uint32(word))
	}
	number, err := hex.DecodeString(port)
	if err != nil {
		t.Fatal(err)
	}
	parsed, ok := netip.AddrFromSlice(addr)
	if !ok {
		t.Fatalf("%s is no address", text)
	}
	return netip.AddrPortFrom(parsed.Unmap(), binary.BigEndian.Uint16(number))
}
