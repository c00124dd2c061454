package redirect_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// theirs is one way in which a pod has rules of its own: what writes them, for
// both families, and what shows them.
type theirs struct {
	name  string
	write []string // shell commands
	show  string
}

// Their rules map a port on loopback, as a pod's own proxy does; take a port that
// we exclude; and lead port 443 around our proxy, which must not succeed.
var (
	ownIptables = `
*nat
:THEIRS - [0:0]
-A OUTPUT -j THEIRS
-A THEIRS -o lo -p tcp -m tcp --dport 8082 -j REDIRECT --to-ports 8081
-A THEIRS -p tcp -m tcp --dport 3306 -m comment --comment "it's \"theirs\"" -j REDIRECT --to-ports 8081
-A THEIRS -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 8081
COMMIT
*filter
-A INPUT -p tcp -m tcp --dport 8083 -j ACCEPT
COMMIT
`
	ownNftables = `
table inet theirs {
	chain output {
		type nat hook output priority -100;
		oifname "lo" tcp dport 8082 redirect to :8081
		tcp dport { 443, 3306 } redirect to :8081 comment "theirs"
	}
}
`
	owners = []theirs{
		{"nft", []string{"nft -f - <<'E'" + ownNftables + "E"}, "nft list table inet theirs"},
		{"iptables-nft", iptablesWrites("nft"), "iptables-nft-save; ip6tables-nft-save"},
		{"iptables-legacy", iptablesWrites("legacy"), "iptables-legacy-save; ip6tables-legacy-save"},
	}
)

func iptablesWrites(mode string) []string {
	return []string{
		"iptables-" + mode + "-restore --noflush <<'E'" + ownIptables + "E",
		"ip6tables-" + mode + "-restore --noflush <<'E'" + ownIptables + "E",
	}
}

// A pod's own rules, whoever wrote them with what, are there before and after as
// they were, and act on what is not ours; ours decide about the rest.
func TestRulesOfPods(t *testing.T) {
	for _, own := range owners {
		t.Run(own.name, func(t *testing.T) {
			t.Parallel()
			w := newServedWorld(t, dualStack)
			for _, command := range own.write {
				w.shell(w.pod, command)
			}
			before := w.rulesOf(own)
			if !strings.Contains(before, "8082") {
				t.Fatalf("they are not there:\n%s", before)
			}
			for _, backend := range backends {
				r := newRuntime(w, "1.1.0", path(w.pod), encode(w, excluding), plugin.NewEntry(backend, false))
				r.mustAdd(w)
				w.step = backend + ", ADD"
				w.try(dualStack, ownRulesCells)
				r.mustAdd(w)
				if err := r.check(); err != nil {
					t.Errorf("%s: CHECK: %v", backend, err)
				}
				r.mustDel(w)
				if after := w.rulesOf(own); after != before {
					t.Fatalf("%s changed rules of the pod:\n%s\nwere:\n%s", backend, after, before)
				}
			}
		})
	}
}

// Rules of a pod that speak of our chains, by words or by a line that looks like one
// of iptables', and tables that only nft can read, are the pod's: they stay, and keep
// nobody from being redirected.
func TestRulesOfPodsThatSpeakOfOurs(t *testing.T) {
	for _, mode := range []string{"nft", "legacy"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			w := &world{TB: t, pod: newNamespace(t)}
			r := newRuntime(t, "1.1.0", path(w.pod), encode(t, plain), plugin.NewEntry("iptables-"+mode, false))
			r.mustAdd(t)
			for _, family := range []string{"iptables-", "ip6tables-"} {
				for _, rule := range []string{
					`-I OUTPUT 2 -m comment --comment "before TRAFFIC_ENVOY_OUTPUT comes" -j ACCEPT`,
					`-A OUTPUT -p tcp -g TRAFFIC_ENVOY_OUTPUT`,
					"-A OUTPUT -m comment --comment 'x\n-A OUTPUT -M /tmp/no -j TRAFFIC_ENVOY_OUTPUT\n' -j ACCEPT",
				} {
					w.shell(w.pod, family+mode+" -t nat "+rule)
				}
			}
			if mode == "nft" {
				w.shell(w.pod, "nft 'add table ip mangle; add chain ip mangle own { type filter hook output priority 7; }; add rule ip mangle own ct state { new, established } accept'")
			}
			own := theirs{show: "iptables-" + mode + " -t nat -S OUTPUT | grep -vx -e '-A OUTPUT -j TRAFFIC_ENVOY_OUTPUT'"}
			before := w.shell(w.pod, own.show)
			if err := r.check(); err != nil {
				t.Errorf("CHECK: %v", err)
			}
			w.shell(w.pod, "iptables-"+mode+" -t nat -D OUTPUT 1")
			expectRepairByAdd(t, r)
			w.shell(w.pod, "iptables-"+mode+" -t nat -S TRAFFIC_ENVOY_OUTPUT | grep REDIRECT")
			r.mustDel(t)
			if left := w.shell(w.pod, "iptables-"+mode+" -t nat -S; ip6tables-"+mode+" -t nat -S"); strings.Contains(left, "REDIRECT") || strings.Contains(left, "\n-A OUTPUT -j TRAFFIC") {
				t.Errorf("DEL left\n%s", left)
			}
			if after := w.shell(w.pod, own.show); after != before {
				t.Errorf("rules of the pod are\n%s\nwere\n%s", after, before)
			}
		})
	}
}

// ownRulesCells hold for the spec excluding and rules of the pod's own.
func ownRulesCells(f int) []cell {
	return []cell{
		{"their port on loopback", 1000, "pod", target{"tcp", at(loopback[f], 8082)}, local},
		{"their rule for an excluded port", 1000, "pod", target{"tcp", at(someone[f], 3306)}, local},
		{"their way around the proxy", 1000, "pod", target{"tcp", at(someone[f], 443)}, proxy},
		{"app to a service", 1000, "pod", target{"tcp", at(someone[f], 80)}, proxy},
		{"outside to the proxy's port", 0, "outside", target{"tcp", at(podAddr[f], proxyPort)}, refused},
	}
}

// shell runs a command in a namespace and returns what it prints.
func (w *world) shell(n ns.NetNS, command string) string {
	w.Helper()
	var out []byte
	w.in(n, func() (err error) {
		out, err = exec.Command("sh", "-ec", command).CombinedOutput()
		if err != nil {
			w.Logf("%s\n%s", command, out)
		}
		return err
	})
	return string(out)
}

// volatile is what changes by itself, or belongs to us, in what iptables prints.
var volatile = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]|^.*TRAFFIC_ENVOY.*\n`)

// rulesOf is every rule of theirs.
func (w *world) rulesOf(own theirs) string {
	w.Helper()
	return volatile.ReplaceAllString(w.shell(w.pod, own.show), "")
}

// A node whose users are in a directory does not wait for it: from the network of
// a pod that is being made nobody can be asked. The node's own file stays.
func TestNoDirectoryIsAsked(t *testing.T) {
	const file = "/etc/nsswitch.conf" // says where users are looked up
	before, err := os.ReadFile(file)
	if err != nil || len(before) == 0 {
		t.Fatalf("%d bytes in %s, %v", len(before), file, err)
	}
	dir := t.TempDir()
	seen := filepath.Join(dir, "seen")
	script := "#!/bin/sh\nwc -c < " + file + " > " + seen + "\nexec " + lookPath(t, "iptables-nft-restore") + " \"$@\"\n"
	replaceRestore(t, dir, "iptables-nft", script)
	cmd := addCommand(t, newNamespace(t), "iptables-nft")
	cmd.Env = append(cmd.Env, "PATH="+dir+":"+os.Getenv("PATH"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ADD: %v\n%s", err, out)
	}
	if size, err := os.ReadFile(seen); strings.TrimSpace(string(size)) != "0" {
		t.Errorf("iptables saw %s bytes, %v", size, err)
	}
	if after, err := os.ReadFile(file); string(after) != string(before) {
		t.Errorf("the node's file is now %q, %v", after, err)
	}
}

// replaceRestore makes a folder of programs in which a script stands for the
// restore of an iptables.
func replaceRestore(t *testing.T, dir, iptables, script string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, iptables+"-restore"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{iptables, iptables + "-save"} {
		if err := os.Symlink(lookPath(t, program), filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
}

func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}
