package e2e

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// TestNetworkOf: a check of what a pod leaves behind must see what it has, or it can never fail.
func TestNetworkOf(t *testing.T) {
	root := t.TempDir()
	results, netns := filepath.Join(root, "var/lib/cni/results"), filepath.Join(root, "run/netns")
	for _, dir := range []string{results, netns} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(path, text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	result := func(pod, netns string) string {
		return `{"kind":"cniCacheV1","containerId":"c","ifName":"eth0","netns":"/var/run/netns/` + netns + `","cniArgs":[["IgnoreUnknown","1"],` +
			`["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","` + pod + `"]]}`
	}
	put(filepath.Join(results, "pods-1-eth0"), result("web", "cni-1"))
	put(filepath.Join(results, "pods-2-eth0"), result("other", "cni-2"))
	if got, err := networkOf(root, "shop", "web"); err == nil {
		t.Errorf("without its network namespace: %q", got)
	}
	put(filepath.Join(netns, "cni-1"), "")
	want := []string{filepath.Join(netns, "cni-1"), filepath.Join(results, "pods-1-eth0")}
	if got, err := networkOf(root, "shop", "web"); err != nil || !slices.Equal(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	for _, unknown := range [][2]string{{"shop", "we"}, {"default", "web"}} {
		if got, err := networkOf(root, unknown[0], unknown[1]); err == nil {
			t.Errorf("%v: %q", unknown, got)
		}
	}
}
