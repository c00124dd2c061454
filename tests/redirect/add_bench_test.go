package redirect_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
)

// addsEach is how many pods of each kind start in a round.
const addsEach = 30

// BenchmarkAdd prints what the plugin adds to a pod's start: from the start of
// its process to its end, run by libcni as in containerd, after the network
// plugin, each time into a new network namespace, whose rules are then looked at.
func BenchmarkAdd(b *testing.B) {
	f := figures.New()
	kinds := []struct {
		name, spec, backend string
		goal                float64 // in ms
	}{
		{"not injected", "", "nftables", 5},
		{"nftables", encode(b, plain), "nftables", 10}, // as the agent configures it
		{"nftables with exclusions", encode(b, excluding), "nftables", 10},
		{"nftables, not configured by the agent", encode(b, plain), apply.Auto, 0}, // tries it first
		{"iptables-nft", encode(b, plain), "iptables-nft", 40},
		{"iptables-legacy", encode(b, plain), "iptables-legacy", 40},
	}
	for _, k := range kinds {
		if k.goal > 0 {
			f.Goal(k.name+" p50 ms", k.goal)
		}
	}
	for b.Loop() {
		for range *figures.Rounds {
			for _, k := range kinds {
				f.Times(k.name, many(func() time.Duration { return timeAdd(b, k.spec, k.backend) }))
			}
			f.Times("for scale, an empty process", many(func() time.Duration {
				began := time.Now()
				if err := exec.Command("/bin/true").Run(); err != nil {
					b.Fatal(err)
				}
				return time.Since(began)
			}))
		}
	}
	f.Print(b)
}

func many(measure func() time.Duration) []time.Duration {
	times := make([]time.Duration, addsEach)
	for i := range times {
		times[i] = measure()
	}
	return times
}

// timeAdd redirects a pod and returns how long our plugin took.
func timeAdd(b *testing.B, spec, backend string) time.Duration {
	b.Helper()
	pod, err := ns.TempNetNS()
	if err != nil {
		b.Fatal(err)
	}
	defer pod.Close()
	watch := &stopwatch{Exec: &invoke.DefaultExec{RawExec: &invoke.RawExec{Stderr: os.Stderr}}}
	r := newRuntime(b, "1.1.0", path(pod), spec, plugin.NewEntry(backend, false))
	r.CNIConfig = libcni.NewCNIConfigWithCacheDir([]string{bin}, b.TempDir(), watch)
	r.mustAdd(b)
	mustBeMeasured(b, pod, spec, backend)
	return watch.took
}

// A stopwatch runs plugins as libcni does, and notes how long ours takes.
type stopwatch struct {
	invoke.Exec
	took time.Duration
}

func (s *stopwatch) ExecPlugin(ctx context.Context, path string, stdin []byte, environ []string) ([]byte, error) {
	began := time.Now()
	out, err := s.Exec.ExecPlugin(ctx, path, stdin, environ)
	if filepath.Base(path) == plugin.Type {
		s.took = time.Since(began)
	}
	return out, err
}

// mustBeMeasured sees that the rules are those of the spec, or that there are none.
func mustBeMeasured(b *testing.B, netns ns.NetNS, spec, backend string) {
	b.Helper()
	if spec == "" {
		if tables(b, netns) {
			b.Fatal("a pod that is not injected has rules")
		}
		return
	}
	s, err := redirect.Decode(spec)
	if err == nil {
		err = apply.Host{}.In(path(netns), backend, func(backend apply.Backend, n ns.NetNS) error { return backend.Check(n, s) })
	}
	if err != nil {
		b.Fatal(err)
	}
}
