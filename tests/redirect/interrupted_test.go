package redirect_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// interrupt stands for a family's iptables-restore: it writes the first tables of
// those that it is told and, when both families are as far, kills the plugin.
const interrupt = `#!/bin/sh
awk -v tables=%[1]d 'n < tables; /^COMMIT/ { n++ }' | %[2]s "$@"
: > %[3]s/%[4]s.done
until [ -e %[3]s/iptables.done ] && [ -e %[3]s/ip6tables.done ]; do sleep 0.005; done
kill -9 $PPID
`

// interruptedAdd runs an ADD that is killed when it has written that many tables
// of each family.
func interruptedAdd(t *testing.T, netns ns.NetNS, mode string, written map[string]int) {
	t.Helper()
	dir := t.TempDir()
	for family, tables := range written {
		program := lookPath(t, family+"-"+mode+"-restore")
		replaceRestore(t, dir, family+"-"+mode, fmt.Sprintf(interrupt, tables, program, dir, family))
	}
	cmd := addCommand(t, netns, "iptables-"+mode)
	cmd.Env = append(cmd.Env, "PATH="+dir+":"+os.Getenv("PATH"))
	if err := cmd.Run(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("ADD ended with %v", err)
	}
}

// addCommand is an ADD as a runtime runs the plugin.
func addCommand(t *testing.T, netns ns.NetNS, backend string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, plugin.Type))
	cmd.Stdin = bytes.NewReader(addStdin(t, encode(t, plain), plugin.NewEntry(backend, false)))
	cmd.Env = []string{"CNI_COMMAND=ADD", "CNI_CONTAINERID=c1", "CNI_NETNS=" + path(netns), "CNI_IFNAME=eth0", "CNI_PATH=" + bin}
	return cmd
}

// addStdin is what containerd hands to the plugin for a pod, with the spec in its
// annotations unless it is empty.
func addStdin(t *testing.T, spec string, entry plugin.Entry) []byte {
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

// checkRules compares the rules in a namespace with those of the spec plain.
func checkRules(netns ns.NetNS, backend string) error {
	return apply.Host{}.In(path(netns), backend, func(b apply.Backend, n ns.NetNS) error { return b.Check(n, plain) })
}

// A runtime or a node that ends in the midst of an ADD leaves some tables of some
// families written. The next ADD, or the agent, makes them what they should be.
func TestInterruptedBetweenTables(t *testing.T) {
	for _, mode := range []string{"nft", "legacy"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			config, client := oneNode(t), fake.NewClientset()
			config.Backend = "iptables-" + mode
			w := &world{TB: t}
			var repaired []ns.NetNS
			for state := range 9 {
				written := map[string]int{"iptables": state / 3, "ip6tables": state % 3}
				for _, by := range []string{"ADD", "agent"} {
					netns := newNamespace(t)
					interruptedAdd(t, netns, mode, written)
					if err := checkRules(netns, config.Backend); (err == nil) != (state == 8) {
						t.Errorf("%v tables written: %v", written, err)
					}
					if by == "agent" {
						w.startPod(config, client, fmt.Sprintf("web-%d", state), netns)
						repaired = append(repaired, netns)
						continue
					}
					newRuntime(t, "1.1.0", path(netns), encode(t, plain), plugin.NewEntry(config.Backend, false)).mustAdd(t)
					if err := checkRules(netns, config.Backend); err != nil {
						t.Errorf("%v tables written, and ADD: %v", written, err)
					}
				}
			}
			startAgent(t, config, client)
			for state, netns := range repaired[:8] {
				awaitEvent(t, client, "shop", fmt.Sprintf("web-%d", state), "RedirectRepaired")
				if err := checkRules(netns, config.Backend); err != nil {
					t.Errorf("%d: after the repair: %v", state, err)
				}
			}
		})
	}
}

// Wherever it is killed, an ADD leaves what the next one can deal with, even if
// programs that it started go on; by nftables all rules or none.
func TestKilledAnywhere(t *testing.T) {
	for _, backend := range backends {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			killed := 0
			for i := range 16 {
				netns := newNamespace(t)
				after := time.Duration(1+i) * time.Millisecond
				add := addCommand(t, netns, backend)
				if err := add.Start(); err != nil {
					t.Fatal(err)
				}
				kill := time.AfterFunc(after, func() { _ = add.Process.Kill() })
				switch err := add.Wait(); {
				case err != nil && err.Error() == "signal: killed":
					killed++
				case err != nil:
					t.Errorf("it ended by itself: %v", err)
				}
				kill.Stop()
				if err := checkRules(netns, backend); backend == "nftables" && err != nil && !strings.Contains(err.Error(), "there is no table") {
					t.Errorf("killed after %s: %v", after, err)
				}
				newRuntime(t, "1.1.0", path(netns), encode(t, plain), plugin.NewEntry(backend, false)).mustAdd(t)
				if err := checkRules(netns, backend); err != nil {
					t.Errorf("killed after %s, and ADD: %v", after, err)
				}
			}
			if killed == 0 {
				t.Error("none was killed")
			}
		})
	}
}
