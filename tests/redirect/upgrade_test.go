package redirect_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/node"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/tests/later"
)

// newerPlugin builds the plugin of a later release.
func newerPlugin(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := later.Source("../..", dir); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, plugin.Type)
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", binary, "./cni-plugin/cmd/traffic-cni")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the later release: %v\n%s", err, out)
	}
	return binary
}

// While agents of two releases follow each other, in either order and again and
// again, every pod that starts meanwhile is redirected by the one plugin or the other.
func TestPluginIsReplacedUnderAdds(t *testing.T) {
	newer := newerPlugin(t)
	config, client := oneNode(t), withDaemonSet()
	stop := startAgent(t, config, client)
	awaitAnswer(t, config, "/readyz", "ok")
	stop()
	var done atomic.Bool
	var adds atomic.Int64
	var workers sync.WaitGroup
	for worker := range 2 {
		workers.Go(func() {
			for i := 0; !done.Load(); i++ {
				spec := map[string]string{}
				if i%2 == 0 {
					spec[redirect.Annotation] = encode(t, plain)
				}
				if err := addOnce(config, fmt.Sprintf("web-%d-%d", worker, i), spec); err != nil {
					t.Errorf("ADD %d, injected %t: %v", i, len(spec) > 0, err)
					return
				}
				adds.Add(1)
			}
		})
	}
	for i, release := range []string{newer, config.Plugin, newer, newer, config.Plugin, newer} {
		seen, now := adds.Load(), config
		now.Plugin = release
		stop = startAgent(t, now, client)
		await(t, fmt.Sprintf("agent %d installs its plugin, and pods start", i), func() error {
			if !sameFile(t, installed(config), release) || adds.Load() < seen+4 && !t.Failed() {
				return fmt.Errorf("%d pods, plugin replaced: %t", adds.Load()-seen, sameFile(t, installed(config), release))
			}
			return nil
		})
		stop()
	}
	done.Store(true)
	workers.Wait()
	t.Logf("%d pods", adds.Load())
}

// addOnce starts a pod, and checks that it has rules if it is injected, and else none.
func addOnce(c node.Config, name string, annotations map[string]string) error {
	netns, err := ns.TempNetNS()
	if err != nil {
		return err
	}
	defer netns.Close()
	if err := addByConfiguration(c, path(netns), name, annotations); err != nil {
		return err
	}
	err = (apply.Nftables{}).Check(netns, plain)
	if len(annotations) == 0 {
		if err == nil || !strings.Contains(err.Error(), "there is no table") {
			return fmt.Errorf("not injected, and has rules: %w", err)
		}
		return nil
	}
	return err
}

// What a later webhook writes is refused by the plugin before it, never redirected as
// if it were understood, and redirected once the node is of the later release. Going
// back leaves what runs as it is.
func TestSpecOfALaterRelease(t *testing.T) {
	newer := newerPlugin(t)
	config, client := oneNode(t), withDaemonSet()
	w := &world{TB: t}
	stop := startAgent(t, config, client)
	awaitAnswer(t, config, "/readyz", "ok")
	early := newNamespace(t)
	err := w.start(config, client, "early", early, later.Spec)
	if err == nil || !strings.Contains(err.Error(), "version 2: this program knows version 1 only; the webhook and the CNI plugin must be of one release") {
		t.Errorf("the plugin before: %v", err)
	}
	if tables(t, early) {
		t.Error("a pod that was refused has rules")
	}
	if err := w.start(config, client, "other", newNamespace(t), ""); err != nil {
		t.Errorf("a pod that did not opt in does not start: %v", err)
	}
	stop()

	upgraded := config
	upgraded.Plugin = newer
	stop = startAgent(t, upgraded, client)
	await(t, "upgraded", func() error {
		if !sameFile(t, installed(config), newer) {
			return fmt.Errorf("the plugin is not replaced")
		}
		return nil
	})
	netns := newNamespace(t)
	if err := w.start(config, client, "web", netns, later.Spec); err != nil {
		t.Fatalf("the later plugin: %v", err)
	}
	stop()

	startAgent(t, config, client) // back
	awaitEvent(t, client, "shop", "web", "RedirectInvalid")
	awaitAnswer(t, config, "/readyz", "ok")
	if err := (apply.Nftables{}).Check(netns, plain); err != nil {
		t.Errorf("going back took the rules from a pod that runs: %v", err)
	}
	next := newNamespace(t)
	w.startPod(config, client, "next", next)
	if err := (apply.Nftables{}).Check(next, plain); err != nil {
		t.Errorf("after going back: %v", err)
	}
}

// An entry that a later agent left is none of the business of pods that did not opt
// in; those that did are refused, with the reason, if it says what this plugin cannot
// do. An agent of this release replaces it.
func TestEntryOfALaterRelease(t *testing.T) {
	config, client := oneNode(t), withDaemonSet()
	stop := startAgent(t, config, client)
	awaitAnswer(t, config, "/readyz", "ok")
	stop()
	entry := fmt.Sprintf(`,{"type":"traffic-cni","capabilities":{%q:true},"backend":"ebpf","boot":"b","queues":["a",7]}`, plugin.AnnotationsCapability)
	list := strings.Replace(conflist, "}}\n  ]", "}}"+entry+"\n  ]", 1)
	if !strings.Contains(list, "ebpf") {
		t.Fatalf("the later agent's entry is not in %s", list)
	}
	if err := os.WriteFile(filepath.Join(config.ConfDir, "10-net.conflist"), []byte(list), 0o644); err != nil {
		t.Fatal(err)
	}
	w := &world{TB: t}
	if err := w.start(config, client, "other", newNamespace(t), ""); err != nil {
		t.Errorf("a pod that did not opt in does not start: %v", err)
	}
	refused := newNamespace(t)
	if err := w.start(config, client, "early", refused, encode(t, plain)); err == nil || !strings.Contains(err.Error(), `backend "ebpf": must be one of auto, nftables`) {
		t.Errorf("ADD with an entry that cannot be obeyed: %v", err)
	}
	startAgent(t, config, client)
	awaitAnswer(t, config, "/readyz", "ok")
	netns := newNamespace(t)
	w.startPod(config, client, "web", netns)
	if err := (apply.Nftables{}).Check(netns, plain); err != nil {
		t.Error(err)
	}
}

// Of two agents on a node, as after a forced deletion, one works and the other waits
// for its turn: two of different releases would take each other's plugin out for ever.
func TestTwoAgentsAtOnce(t *testing.T) {
	newer := newerPlugin(t)
	config, client := oneNode(t), withDaemonSet()
	stop := startAgent(t, config, client)
	awaitAnswer(t, config, "/readyz", "ok")
	second := config
	second.Plugin = newer
	err := node.New(second, client, slog.New(slog.NewTextHandler(t.Output(), nil))).Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("the second agent ends with %v", err)
	}
	if !sameFile(t, installed(config), config.Plugin) {
		t.Error("the second agent has replaced the plugin")
	}
	stop()
	startAgent(t, second, client)
	await(t, "its turn", func() error {
		if !sameFile(t, installed(config), newer) {
			return fmt.Errorf("the plugin is not replaced")
		}
		return nil
	})
}
