package redirect_test

import (
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
)

// On a node without a program, each back end that needs it says so, and a probe
// of the others leaves nothing in the pod.
func TestProbe(t *testing.T) {
	bare := t.TempDir() // a node's file system without iptables
	for _, backend := range backends {
		for root, works := range map[string]bool{"": true, bare: backend == "nftables"} {
			w := &world{TB: t, pod: newNamespace(t)}
			err := apply.Host{Root: root}.In(path(w.pod), backend, func(b apply.Backend, n ns.NetNS) error { return b.Probe(n) })
			if (err == nil) != works || !works && !strings.Contains(err.Error(), "not installed on this node") {
				t.Errorf("%s with root %q: %v", backend, root, err)
			}
			if left := w.shell(w.pod, "nft list ruleset; iptables-legacy-save; ip6tables-legacy-save"); strings.Contains(left, "TRAFFIC_ENVOY") || strings.Contains(left, "traffic-envoy") {
				t.Errorf("the probe of %s left\n%s", backend, left)
			}
		}
	}
}
