package redirect_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// BenchmarkAdd is what the plugin adds to a pod's start: one ADD as libcni runs
// it, the whole process, each into a fresh network namespace.
func BenchmarkAdd(b *testing.B) {
	for _, c := range []struct{ name, spec, backend string }{
		{"not injected", "", "nftables"},
		{"nftables", encode(b, plain), "nftables"}, // as the agent configures it
		{"nftables, with exclusions", encode(b, excluding), "nftables"},
		{"nftables, not configured by the agent", encode(b, plain), apply.Auto},
		{"iptables-nft", encode(b, plain), "iptables-nft"},
		{"iptables-legacy", encode(b, plain), "iptables-legacy"},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkAdd(b, c.spec, plugin.NewEntry(c.backend, false)) })
	}
	b.Run("for scale: an empty process", func(b *testing.B) {
		for b.Loop() {
			if err := exec.Command("/bin/true").Run(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func benchmarkAdd(b *testing.B, spec string, entry plugin.Entry) {
	stdin := addStdin(b, spec, entry)
	var last ns.NetNS
	var took []time.Duration
	for b.Loop() {
		b.StopTimer()
		last = newNamespace(b)
		args := &invoke.Args{
			Command: "ADD", ContainerID: "c1", NetNS: path(last), IfName: "eth0", Path: bin,
			PluginArgsStr: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
		}
		b.StartTimer()
		began := time.Now()
		if _, err := invoke.ExecPluginWithResult(context.Background(), filepath.Join(bin, plugin.Type), stdin, args, nil); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	b.ReportMetric(milliseconds(took[len(took)/2]), "ms-median")
	b.ReportMetric(milliseconds(took[len(took)*9/10]), "ms-p90")
	mustBeMeasured(b, last, spec, entry.Backend)
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// mustBeMeasured sees that the rules are those of the spec, or that there are none.
func mustBeMeasured(b *testing.B, netns ns.NetNS, spec, backend string) {
	b.Helper()
	if spec == "" {
		if tables(b, netns) {
			b.Fatal("a pod that is not injected has rules")
		}
		return
	}
	s, err := redirect.Decode(spec)
	if err == nil {
		err = apply.Host{}.In(path(netns), backend, func(backend apply.Backend, n ns.NetNS) error { return backend.Check(n, s) })
	}
	if err != nil {
		b.Fatal(err)
	}
}

// addStdin is what containerd hands to the plugin for a pod, with the spec in its
// annotations unless it is empty.
func addStdin(t testing.TB, spec string, entry plugin.Entry) []byte {
	t.Helper()
	annotations := map[string]string{"kubernetes.io/config.seen": "today"}
	if spec != "" {
		annotations[redirect.Annotation] = spec
	}
	stdin, err := json.Marshal(map[string]any{
		"cniVersion": "1.1.0", "name": "pods", "type": entry.Type, "capabilities": entry.Capabilities, "backend": entry.Backend,
		"prevResult":    json.RawMessage(result("1.1.0")),
		"runtimeConfig": map[string]any{plugin.AnnotationsCapability: annotations},
	})
	if err != nil {
		t.Fatal(err)
	}
	return stdin
}
