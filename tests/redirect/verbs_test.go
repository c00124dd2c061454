package redirect_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// A cluster's network configuration may be of any version, and what the network
// plugin said must reach the runtime.
func TestEveryVersion(t *testing.T) {
	for _, v := range version.VersionsStartingFrom(plugin.MinVersion).SupportedVersions() {
		for name, spec := range map[string]string{"injected": encode(t, plain), "not injected": ""} {
			t.Run(v+"/"+name, func(t *testing.T) {
				netns := newNamespace(t)
				r := newRuntime(t, v, path(netns), spec, plugin.NewEntry(apply.Auto, true))
				got, err := r.add()
				if err != nil {
					t.Fatal(err)
				}
				want, err := version.NewResult(v, []byte(result(v)))
				if err != nil {
					t.Fatal(err)
				}
				if !reflect.DeepEqual(got, want) {
					t.Errorf("result %+v, want %+v", got, want)
				}
				if has := tables(t, netns); has != (spec != "") {
					t.Errorf("rules written: %v", has)
				}
				if err := r.check(); err != nil && v != "0.3.1" { // which knows no CHECK
					t.Errorf("CHECK: %v", err)
				}
				if err := r.GetStatusNetworkList(context.Background(), r.list); err != nil {
					t.Errorf("strict STATUS: %v", err)
				}
				if err := r.GCNetworkList(context.Background(), r.list, &libcni.GCArgs{}); err != nil {
					t.Errorf("GC: %v", err)
				}
				if err := r.del(); err != nil {
					t.Errorf("DEL: %v", err)
				}
				if tables(t, netns) {
					t.Error("DEL left rules")
				}
			})
		}
	}
}

// tables says whether the namespace has nftables of anybody.
func tables(t testing.TB, netns ns.NetNS) bool {
	t.Helper()
	all, err := conn(t, netns).ListTables()
	if err != nil {
		t.Fatal(err)
	}
	return len(all) > 0
}

func conn(t testing.TB, netns ns.NetNS) *nftables.Conn {
	t.Helper()
	c, err := nftables.New(nftables.WithNetNSFd(int(netns.Fd())))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func ourTable() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: "traffic-envoy"}
}

// Rules that the pod's own init containers or its platform wrote must not be
// lost or changed by ours.
func TestRulesOfOthersSurvive(t *testing.T) {
	netns := newNamespace(t)
	c := conn(t, netns)
	for _, family := range []nftables.TableFamily{nftables.TableFamilyINet, nftables.TableFamilyIPv4, nftables.TableFamilyIPv6} {
		canary := c.AddTable(&nftables.Table{Family: family, Name: "canary"})
		chain := c.AddChain(&nftables.Chain{Name: "output", Table: canary, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest})
		c.AddRule(&nftables.Rule{Table: canary, Chain: chain, Exprs: []expr.Any{&expr.Counter{}, &expr.Verdict{Kind: expr.VerdictAccept}}, UserData: []byte("\x00\x07canary\x00")})
	}
	if err := c.Flush(); err != nil {
		t.Fatal(err)
	}
	before := dump(t, netns)
	r := newRuntime(t, "1.1.0", path(netns), encode(t, plain), plugin.NewEntry(apply.Auto, false))
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"ADD", func() error { _, err := r.add(); return err }},
		{"ADD again", func() error { _, err := r.add(); return err }},
		{"CHECK", r.check},
		{"DEL", r.del},
		{"DEL again", r.del},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		if after := dump(t, netns); after != before {
			t.Fatalf("%s changed rules of others:\n%s\nwere:\n%s", step.name, after, before)
		}
	}
}

// dump is every rule in a namespace that is not ours, as the kernel has it.
func dump(t testing.TB, netns ns.NetNS) string {
	t.Helper()
	c := conn(t, netns)
	chains, err := c.ListChains()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, chain := range chains {
		if chain.Table.Name == ourTable().Name {
			continue
		}
		rules, err := c.GetRules(chain.Table, chain)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range rules {
			exprs, err := json.Marshal(r.Exprs)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintln(&b, chain.Table.Family, chain.Table.Name, chain.Name, *chain.Priority, r.Handle, string(exprs), string(bytes.TrimSpace(r.UserData)))
		}
	}
	if strings.Count(b.String(), "\n") < 3 {
		t.Fatalf("the canaries are not there:\n%s", &b)
	}
	return b.String()
}

// The longest spec fits into one transaction.
func TestLongestSpec(t *testing.T) {
	s := plain
	for i := range redirect.MaxExcludeCIDRs {
		s.ExcludeCIDRs = append(s.ExcludeCIDRs, netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, byte(i)}), 100))
	}
	for i := range redirect.MaxExcludePorts {
		s.ExcludePorts = append(s.ExcludePorts, redirect.PortRange{From: uint16(1 + i), To: 65535})
	}
	for _, backend := range backends {
		r := newRuntime(t, "1.1.0", path(newNamespace(t)), encode(t, s), plugin.NewEntry(backend, false))
		r.mustAdd(t)
		if err := r.check(); err != nil {
			t.Errorf("%s: %v", backend, err)
		}
		r.mustAdd(t)
	}
}

// What a runtime shows in a pod's events must name pod, field and value, and
// nothing half done may be left.
func TestAddRefuses(t *testing.T) {
	netns := newNamespace(t)
	r := newRuntime(t, "1.0.0", path(netns), `{"version":1,"proxyUID":0,"proxyPort":10000}`, plugin.NewEntry(apply.Auto, false))
	if _, err := r.add(); err == nil || !strings.Contains(err.Error(), "pod shop/web-0: annotation traffic.envoy.redirect; redirect spec: proxyUID 0: must be 1 to 4294967294") {
		t.Errorf("ADD with a bad spec: %v", err)
	}
	if tables(t, netns) {
		t.Error("rules were written")
	}
	missing := newRuntime(t, "1.0.0", filepath.Join(t.TempDir(), "gone"), encode(t, plain), plugin.NewEntry(apply.Auto, false))
	if _, err := missing.add(); err == nil || !strings.Contains(err.Error(), "no such network namespace") {
		t.Errorf("ADD without a namespace: %v", err)
	}
}

// The namespace that the plugin runs in is the node's: redirecting that would
// cut the node off. Here a namespace of the test stands for the node's.
func TestNodeIsNeverRedirected(t *testing.T) {
	node := newNamespace(t)
	r := newRuntime(t, "1.1.0", path(node), encode(t, plain), plugin.NewEntry(apply.Auto, false))
	err := node.Do(func(ns.NetNS) error {
		_, err := r.add()
		return err
	})
	if err == nil || !strings.Contains(err.Error(), "is the node's own") {
		t.Errorf("ADD in the node's namespace: %v", err)
	}
	if tables(t, node) {
		t.Fatal("the node is redirected")
	}
}

// Whatever is gone, a pod must go away.
func TestDelOfWhatIsGone(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "was-a-namespace")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for name, netns := range map[string]string{"no path": "", "missing": filepath.Join(dir, "missing"), "unmounted": file, "never added": path(newNamespace(t))} {
		for _, v := range version.VersionsStartingFrom(plugin.MinVersion).SupportedVersions() {
			if err := newRuntime(t, v, netns, encode(t, plain), plugin.NewEntry(apply.Auto, false)).del(); err != nil {
				t.Errorf("DEL %s, version %s: %v", name, v, err)
			}
		}
	}
}

// The plugin and the agent's repair may meet in one namespace: all of them
// succeed, and the rules are there once.
func TestAddsAtOnce(t *testing.T) {
	for _, c := range []struct {
		backend         apply.Backend
		rounds, writers int
	}{
		{apply.Nftables{}, 20, 8},
		{apply.Iptables{Mode: apply.ModeNFT}, 8, 2},
		{apply.Iptables{Mode: apply.ModeLegacy}, 8, 2},
	} {
		t.Run(c.backend.Name(), func(t *testing.T) {
			t.Parallel()
			for range c.rounds {
				netns := newNamespace(t)
				var all sync.WaitGroup
				for range c.writers {
					all.Go(func() {
						if err := c.backend.Apply(netns, plain); err != nil {
							t.Error(err)
						}
					})
				}
				all.Wait()
				if err := c.backend.Check(netns, plain); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
