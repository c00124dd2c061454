package redirect_test

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"testing"

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
		{"injected", encode(b, plain), "nftables"}, // as the agent configures it
		{"injected, with exclusions", encode(b, excluding), "nftables"},
		{"injected, not configured by the agent", encode(b, plain), apply.Auto},
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
		b.Fatal(err)
	}
	var last ns.NetNS
	for b.Loop() {
		b.StopTimer()
		last = newNamespace(b)
		args := &invoke.Args{
			Command: "ADD", ContainerID: "c1", NetNS: path(last), IfName: "eth0", Path: bin,
			PluginArgsStr: "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web-0",
		}
		b.StartTimer()
		if _, err := invoke.ExecPluginWithResult(context.Background(), filepath.Join(bin, plugin.Type), stdin, args, nil); err != nil {
			b.Fatal(err)
		}
	}
	if tables(b, last) != (spec != "") {
		b.Fatal("the rules are not what was measured")
	}
}
