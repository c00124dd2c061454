package plan

import (
	"strings"
	"testing"
)

// Two clusters must never share a link, an address, a cgroup or a directory.
func TestClustersDoNotMeet(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{DefaultName, "second", "other", "leftovers"} {
		p, err := New(name, "/state", -1)
		if err != nil {
			t.Fatal(err)
		}
		for _, own := range []string{
			p.Link(), p.Cgroup(), p.Dir(), p.Kubeconfig(), p.Socket(), p.MachineRegistry(),
			p.NodeV4().String(), p.NodeV6().String(), p.BalancerV4().String(), p.BalancerV6().String(),
		} {
			if other, ok := seen[own]; ok {
				t.Errorf("clusters %s and %s share %s", other, name, own)
			}
			seen[own] = name
		}
		if len(p.Link()) > 15 {
			t.Errorf("link name %s has more than 15 characters", p.Link())
		}
		if !p.MachineV6().Masked().Overlaps(p.BalancerV6()) || !p.MachineV4().Masked().Overlaps(p.BalancerV4()) {
			t.Errorf("load balancer addresses of %s are outside the checked subnet", name)
		}
	}
}

func TestDefaultClusterIsWhereUsersLook(t *testing.T) {
	p, err := New(DefaultName, "/state", -1)
	if err != nil {
		t.Fatal(err)
	}
	if p.Kubeconfig() != "/state/kubeconfig" || p.MachineRegistry() != RegistryHost {
		t.Errorf("kubeconfig %s, registry %s", p.Kubeconfig(), p.MachineRegistry())
	}
}

func TestNewRefuses(t *testing.T) {
	for _, test := range []struct {
		name, state string
		net         int
		want        string
	}{
		{"Upper", "/s", -1, `cluster name "Upper"`},
		{"", "/s", -1, `cluster name ""`},
		{"a/b", "/s", -1, `cluster name "a/b"`},
		{"images", "/s", -1, `cluster name "images"`},
		{"a", "relative", -1, `state directory "relative"`},
		{"a", "/s", 256, "cluster subnet 256"},
	} {
		if _, err := New(test.name, test.state, test.net); err == nil || !strings.HasPrefix(err.Error(), test.want) {
			t.Errorf("New(%q, %q, %d): error %v, want %s", test.name, test.state, test.net, err, test.want)
		}
	}
}
