package redirect_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/node"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// Whatever another network add-on does to the node's configuration, a pod that
// starts in the same moment is redirected, by the plugin or by a repair, and one that
// did not opt in starts at once and is left alone.
func TestConfigurationIsReplaced(t *testing.T) {
	config, client := oneNode(t), fake.NewClientset()
	startAgent(t, config, client)
	w := &world{TB: t}
	file := func(name string) string { return filepath.Join(config.ConfDir, name) }
	other := strings.Replace(conflist, `"pods"`, `"other"`, 1)
	for i, c := range []struct {
		what   string
		change func() error
		active string
	}{
		{"nothing", func() error { return nil }, "10-net.conflist"},
		{"written anew", func() error { return os.WriteFile(file("10-net.conflist"), []byte(conflist), 0o644) }, "10-net.conflist"},
		{"replaced by a rename", func() error {
			if err := os.WriteFile(file("new"), []byte(conflist), 0o644); err != nil {
				return err
			}
			return os.Rename(file("new"), file("10-net.conflist"))
		}, "10-net.conflist"},
		{"a newer file of another CNI", func() error { return os.WriteFile(file("05-other.conflist"), []byte(other), 0o644) }, "05-other.conflist"},
		{"the older file goes", func() error { return os.Remove(file("10-net.conflist")) }, "05-other.conflist"},
		{"moved aside for another, as Cilium does", func() error {
			if err := os.Rename(file("05-other.conflist"), file("05-other.conflist.cilium_bak")); err != nil {
				return err
			}
			return os.WriteFile(file("04-third.conflist"), []byte(other), 0o644)
		}, "04-third.conflist"},
	} {
		if err := c.change(); err != nil {
			t.Fatal(err)
		}
		injected, alone := newNamespace(t), newNamespace(t)
		w.startPod(config, client, fmt.Sprintf("web-%d", i), injected)
		if err := w.start(config, client, fmt.Sprintf("other-%d", i), alone, ""); err != nil {
			t.Errorf("%s: a pod that did not opt in does not start: %v", c.what, err)
		}
		await(t, c.what+": the pod that starts meanwhile is redirected", func() error { return (apply.Nftables{}).Check(injected, plain) })
		await(t, c.what+": chained", func() error { return chained(config, c.active) })
		next := newNamespace(t)
		w.startPod(config, client, fmt.Sprintf("next-%d", i), next)
		if err := (apply.Nftables{}).Check(next, plain); err != nil {
			t.Errorf("%s: the next pod: %v", c.what, err)
		}
		if tables(t, alone) {
			t.Errorf("%s: a pod that did not opt in has rules", c.what)
		}
	}
}

// chained reports a configuration file without our entry.
func chained(c node.Config, name string) error {
	data, err := os.ReadFile(filepath.Join(c.ConfDir, name))
	if err == nil && !bytes.Contains(data, []byte(`"`+plugin.Type+`"`)) {
		err = fmt.Errorf("%s is %s", name, data)
	}
	return err
}

// await waits until do has no error, for a time that is long for any machine.
func await(t *testing.T, what string, do func() error) {
	t.Helper()
	err := do()
	for end := time.Now().Add(20 * time.Second); err != nil; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: %v", what, err)
		}
		err = do()
	}
}
