package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// likeCilium has the node's network configured as by Cilium that balances connections inside pods: a plugin of its name, which maps
// no port, is in the chain, and there is its ConfigMap. It returns the configuration before.
func (s *site) likeCilium(t *testing.T) []byte {
	t.Helper()
	before, err := os.ReadFile(s.conflist())
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(s.cluster.Bin("cni", "portmap"), s.ciliumPlugin()); err != nil {
		t.Fatal(err)
	}
	end := strings.LastIndex(string(before), "]")
	s.writeConflist(t, []byte(string(before[:end])+`,{"type":"cilium-cni","backend":"nftables"}`+string(before[end:])))
	s.kubectl(t, "create", "configmap", "-n", "kube-system", "cilium-config", "--from-literal=kube-proxy-replacement=true", "--from-literal=bpf-lb-sock-hostns-only=false")
	return before
}

// notLikeCilium puts the configuration back.
func (s *site) notLikeCilium(t *testing.T, before []byte) {
	t.Helper()
	s.writeConflist(t, before)
	s.kubectl(t, "delete", "configmap", "-n", "kube-system", "cilium-config")
	if err := os.Remove(s.ciliumPlugin()); err != nil {
		t.Fatal(err)
	}
}

func (s *site) ciliumPlugin() string { return filepath.Join(s.node, "opt/cni/bin/cilium-cni") }

func (s *site) conflist() string { return filepath.Join(s.node, "etc/cni/net.d/10-pods.conflist") }

func (s *site) writeConflist(t *testing.T, text []byte) {
	t.Helper()
	if err := os.WriteFile(s.conflist(), text, 0o644); err != nil {
		t.Fatal(err)
	}
}

// addOnNamed checks that a node says what will keep labels from acting before the first pod is injected.
func addOnNamed(t *testing.T, s *site) {
	const want = "It is Cilium, whose ConfigMap kube-system/cilium-config has kube-proxy-replacement=true and bpf-lb-sock-hostns-only=false: set socketLB.hostNamespaceOnly=true"
	eventually(t, want, func() string {
		events := s.kubectl(t, "get", "events", "-n", "default", "--field-selector=reason=RedirectBypassed", "-o", "jsonpath={.items[*].message}")
		if strings.Contains(events, want) {
			return want
		}
		return events
	})
}
