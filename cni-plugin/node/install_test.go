package node

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// A file that several names stand for stays one file.
func TestLinkKeepsItsTarget(t *testing.T) {
	dir, elsewhere := t.TempDir(), t.TempDir()
	target := filepath.Join(elsewhere, "real")
	write(t, target, []byte(`{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}`), 0o640)
	link := filepath.Join(dir, "10-a.conflist")
	if err := os.Symlink(target, link); err != nil {
		t.Fatal(err)
	}
	changes, err := planInstall(dir, testEntry(t))
	applyAll(t, changes, err)
	if to, err := os.Readlink(link); err != nil || to != target {
		t.Errorf("link points to %q, %v", to, err)
	}
	if data, err := os.ReadFile(target); err != nil || !bytes.Contains(data, []byte(plugin.Type)) {
		t.Errorf("target is %s, %v", data, err)
	}
}

// An add-on that writes its file anew while we change it must not get back the
// content that it replaced.
func TestKeepsWhatOthersWriteMeanwhile(t *testing.T) {
	const (
		before = `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"}]}`
		after  = `{"cniVersion":"1.0.0","name":"a","plugins":[{"type":"bridge"},{"type":"portmap"}]}`
	)
	withOurs := func(list string) string { return strings.Replace(list, `]}`, `,`+e+`]}`, 1) }
	entry := testEntry(t)
	install := func(dir string) ([]change, error) { return planInstall(dir, entry) }
	for name, c := range map[string]struct {
		plan                  func(dir string) ([]change, error)
		before, written, want string
	}{
		"install":               {install, before, after, withOurs(after)},
		"file removed meantime": {install, before, "", ""},
		"uninstall":             {planUninstall, withOurs(before), withOurs(after), after},
	} {
		n := newNode(t)
		a := newAgent(n.config, n.client, slog.New(slog.DiscardHandler), n.kernel.in, n.resolve)
		path := n.conflist("10-a.conflist", c.before)
		n.conflist("20-b.conflist", after) // is active when there is no other
		plans := 0
		changed, _, err := a.installer.carryOut(func() ([]change, error) {
			changes, err := c.plan(n.config.ConfDir)
			if plans++; plans == 1 { // between our read and our rename
				if err := os.Remove(path); err != nil {
					t.Error(err)
				}
				if c.written != "" {
					n.conflist("10-a.conflist", c.written)
				}
			}
			return changes, err
		})
		if !changed || err != nil || plans != 2 {
			t.Errorf("%s: changed %v with %d plans, %v", name, changed, plans, err)
		}
		if data, _ := os.ReadFile(path); string(data) != c.want {
			t.Errorf("%s: the file is %s\nwant %s", name, data, c.want)
		}
	}
}

// When the cluster's network plugin goes from a single file to a list, ours that
// stood for the file must not stay behind in front of the list.
func TestDerivedFileGoesWithItsOriginal(t *testing.T) {
	dir := t.TempDir()
	conf := filepath.Join(dir, "10-net.conf")
	write(t, conf, []byte(`{"cniVersion":"1.0.0","name":"pods","type":"bridge"}`), 0o644)
	changes, err := planInstall(dir, testEntry(t))
	applyAll(t, changes, err)
	if got := snapshot(t, dir); len(got) != 2 {
		t.Fatalf("installed: %v", got)
	}
	if err := os.Remove(conf); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "20-net.conflist"), []byte(`{"cniVersion":"1.0.0","name":"pods","plugins":[{"type":"ptp"}]}`), 0o644)
	changes, err = planInstall(dir, testEntry(t))
	applyAll(t, changes, err)
	if got := snapshot(t, dir); len(got) != 1 || !strings.Contains(got["20-net.conflist"], plugin.Type) {
		t.Errorf("afterwards: %v", got)
	}
}
