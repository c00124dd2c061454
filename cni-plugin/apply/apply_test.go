package apply

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables/expr"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

func neverCalled(t *testing.T) func(Backend, ns.NetNS) error {
	return func(Backend, ns.NetNS) error {
		t.Error("a back end was called")
		return nil
	}
}

// Rules in the namespace of the process itself would redirect the node.
func TestOwnNamespaceIsRefused(t *testing.T) {
	err := Host{}.In("/proc/thread-self/ns/net", "nftables", neverCalled(t))
	if err == nil || !strings.Contains(err.Error(), "is the node's own") {
		t.Errorf("got %v", err)
	}
}

// A namespace that is gone is told from one that cannot be opened: the first is
// every pod's end, the second a fault.
func TestGone(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for path, gone := range map[string]bool{
		filepath.Join(t.TempDir(), "missing"): true,
		file:                                  true,
		filepath.Join(file, "below"):          false,
		"":                                    true,
	} {
		err := Host{}.In(path, "nftables", neverCalled(t))
		if err == nil || errors.Is(err, ErrGone) != gone {
			t.Errorf("%q: %v, want gone %v", path, err, gone)
		}
	}
}

// A typing error in a configuration names what is possible.
func TestNames(t *testing.T) {
	for _, name := range Names() {
		if err := ValidateName(name); err != nil {
			t.Error(err)
		}
	}
	if err := ValidateName("iptable"); err == nil || !strings.Contains(err.Error(), `backend "iptable": must be one of auto, nftables, iptables-nft, iptables-legacy`) {
		t.Errorf("got %v", err)
	}
	if _, err := (Host{}).choose("iptable", nil); err == nil {
		t.Error("an unknown name was chosen")
	}
}

// Every rule ends in exactly one thing that is done, and the matches before it
// each look at what they loaded: a load without a comparison matches everything.
func TestExpressionsAreComplete(t *testing.T) {
	for _, r := range redirect.Rules(redirect.Spec{Version: 1, ProxyUID: 1337, ProxyPort: 10000}) {
		loads, compares := 0, 0
		all := expressions(r)
		for _, e := range all {
			switch e.(type) {
			case *expr.Meta, *expr.Payload:
				loads++
			case *expr.Cmp, *expr.Range:
				compares++
			}
		}
		if loads != compares || loads == 0 {
			t.Errorf("%s: %d loads, %d comparisons", r, loads, compares)
		}
		switch all[len(all)-1].(type) {
		case *expr.Verdict, *expr.Redir, *expr.Reject:
		default:
			t.Errorf("%s ends in %T", r, all[len(all)-1])
		}
	}
}

// tried is a back end that says whether it works.
type tried struct {
	Backend
	err error
}

func (t tried) Probe(ns.NetNS) error { return t.err }

// Auto is the first that works; what does not is told, and why.
func TestAuto(t *testing.T) {
	broken := errors.New("no such module")
	backends := Host{}.backends()
	for works, want := range []string{"nftables", "iptables-nft", "iptables-legacy", ""} {
		var candidates []Backend
		for i, b := range backends {
			err := broken
			if i >= works {
				err = nil
			}
			candidates = append(candidates, tried{b, err})
		}
		var passed []string
		host := Host{PassedOver: func(name string, _ error) { passed = append(passed, name) }}
		b, err := host.chooseOf(candidates, Auto, nil)
		if want == "" {
			if !errors.Is(err, broken) || !strings.Contains(err.Error(), "no back end works on this node: nftables: no such module") {
				t.Errorf("none works: %v", err)
			}
		} else if err != nil || b.Name() != want {
			t.Errorf("%v, %v instead of %s", b, err, want)
		}
		if len(passed) != works {
			t.Errorf("%s: passed over %v", want, passed)
		}
	}
}
