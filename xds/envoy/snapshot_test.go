package envoy

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

var zipkin = Collector{Kind: Zipkin, Address: CollectorAddress{Host: "zipkin.tracing", Port: 9411}}

func newSnapshot(t interface{ Fatal(...any) }) *Snapshot {
	translator, err := NewTranslator(Config{AccessLog: LogAll, Collector: zipkin})
	if err != nil {
		t.Fatal(err)
	}
	return NewSnapshot(translator)
}

func object(name string) mesh.Object {
	return mesh.Object{Kind: "Service", Namespace: "default", Name: name}
}

// opens is a change to a Service with one port at those addresses.
func opens(name string, protocol label.Protocol, addresses ...string) mesh.PortChange {
	port := mesh.Port{Owner: object(name), Number: 80, Protocol: protocol}
	for _, a := range addresses {
		port.Addresses = append(port.Addresses, netip.AddrPortFrom(netip.MustParseAddr(a), 80))
	}
	return mesh.PortChange{Owner: port.Owner, Ports: []mesh.Port{port}}
}

// traced is such a change with tracing switched on.
func traced(change mesh.PortChange) mesh.PortChange {
	change.Ports[0].Settings.Tracing.Enabled = true
	return change
}

func closes(name string) mesh.PortChange { return mesh.PortChange{Owner: object(name)} }

// words is an update in short: "+Listener/10.0.0.1:80" for what is set, "-..." for what is removed.
func words(u Update) []string {
	var list []string
	for _, r := range u.Set {
		list = append(list, "+"+r.Type[strings.LastIndexByte(r.Type, '.')+1:]+"/"+r.Name)
	}
	for _, key := range u.Remove {
		list = append(list, "-"+key.Type[strings.LastIndexByte(key.Type, '.')+1:]+"/"+key.Name)
	}
	return list
}

// TestSnapshotApply: proxies get what is different and nothing else.
func TestSnapshotApply(t *testing.T) {
	s := newSnapshot(t)
	const unknown = label.Protocol(99)
	steps := []struct {
		name    string
		changes []mesh.PortChange
		want    []string
		failed  []string
	}{
		{
			name:    "two ports open",
			changes: []mesh.PortChange{opens("a", label.TCP, "10.0.0.1"), opens("b", label.Direct, "10.0.0.2")},
			want: []string{
				"+Cluster/80|default|a.outbound", "+ClusterLoadAssignment/80|default|a.outbound", "+Listener/10.0.0.1:80",
				"+Cluster/80|default|b.outbound", "+Listener/10.0.0.2:80",
			},
		},
		{
			name:    "the same again",
			changes: []mesh.PortChange{opens("a", label.TCP, "10.0.0.1"), opens("b", label.Direct, "10.0.0.2")},
		},
		{
			name:    "an address more, and one that passes over",
			changes: []mesh.PortChange{opens("a", label.TCP, "10.0.0.2", "10.0.0.3"), opens("b", label.Direct, "10.0.0.1")},
			want:    []string{"+Listener/10.0.0.2:80", "+Listener/10.0.0.3:80", "+Listener/10.0.0.1:80"},
		},
		{
			name:    "one cannot be translated and keeps what it has; the other goes",
			changes: []mesh.PortChange{opens("a", unknown, "10.0.0.2"), closes("b")},
			want:    []string{"-Cluster/80|default|b.outbound", "-Listener/10.0.0.1:80"},
			failed:  []string{"port 80 of Service default/a: protocol 99 is not known"},
		},
		{
			name:    "what another gets it does not keep",
			changes: []mesh.PortChange{opens("a", unknown, "10.0.0.2"), opens("c", label.Direct, "10.0.0.3")},
			want:    []string{"+Cluster/80|default|c.outbound", "+Listener/10.0.0.3:80"},
			failed:  []string{"port 80 of Service default/a: protocol 99 is not known"},
		},
		{
			name:    "and does not take along when it goes",
			changes: []mesh.PortChange{closes("a")},
			want:    []string{"-Cluster/80|default|a.outbound", "-ClusterLoadAssignment/80|default|a.outbound", "-Listener/10.0.0.2:80"},
		},
		{
			name:    "the last closes",
			changes: []mesh.PortChange{closes("c")},
			want:    []string{"-Cluster/80|default|c.outbound", "-Listener/10.0.0.3:80"},
		},
	}
	for _, step := range steps {
		u, failures := s.Apply(step.changes)
		if diff := cmp.Diff(step.want, words(u)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
		var failed []string
		for _, f := range failures {
			failed = append(failed, f.Err.Error())
		}
		if diff := cmp.Diff(step.failed, failed); diff != "" {
			t.Errorf("%s: failures (-want +got):\n%s", step.name, diff)
		}
	}
	if len(s.held) != 0 || len(s.ports) != 0 {
		t.Errorf("of nothing there remain %d resources and %d Services", len(s.held), len(s.ports))
	}
}

// TestInvalidIsNotPublished: what Envoy's own rules forbid stops here, with the name of its owner.
func TestInvalidIsNotPublished(t *testing.T) {
	s := newSnapshot(t)
	change := opens("a", label.TCP, "10.0.0.1")
	change.Ports[0].Endpoints = []mesh.Endpoint{{Address: netip.MustParseAddrPort("10.1.0.1:80")}} // weight 0
	u, failures := s.Apply([]mesh.PortChange{change})
	if len(u.Set) != 0 || len(failures) != 1 {
		t.Fatalf("published %v, failures %v", words(u), failures)
	}
	for _, want := range []string{"80|default|a.outbound", "Service default/a", "LoadBalancingWeight"} {
		if !strings.Contains(failures[0].Error(), want) {
			t.Errorf("%q does not name %s", failures[0].Error(), want)
		}
	}
	if errors.Unwrap(failures[0]) == nil {
		t.Error("the cause is lost")
	}
}

// TestSnapshotEqualsRebuild: after any changes, with addresses that wander between Services, proxies have what a new
// control plane would give them, and were never told of a key twice in one update.
func TestSnapshotEqualsRebuild(t *testing.T) {
	addresses := []string{"10.0.0.1", "10.0.0.2", "10.0.0.3"}
	rapid.Check(t, func(t *rapid.T) {
		s, live, last := newSnapshot(t), map[Key]string{}, map[string]mesh.PortChange{}
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			free := slices.Clone(addresses)
			var changes []mesh.PortChange
			for _, name := range []string{"a", "b", "c"} {
				change := closes(name)
				if rapid.IntRange(0, 3).Draw(t, "open") > 0 {
					at := rapid.IntRange(0, len(free)-1).Draw(t, "address")
					protocol := rapid.SampledFrom([]label.Protocol{label.HTTP, label.HTTP2, label.TCP, label.Direct}).Draw(t, "protocol")
					change = opens(name, protocol, free[at])
					free = slices.Delete(free, at, at+1)
					if rapid.Bool().Draw(t, "traced") {
						change = traced(change)
					}
				}
				last[name] = change
				changes = append(changes, change)
			}
			u, failures := s.Apply(changes)
			if len(failures) != 0 {
				t.Fatal(failures)
			}
			seen := map[Key]bool{}
			for _, r := range u.Set {
				if seen[r.Key] || live[r.Key] == r.Version+r.Owner.Name {
					t.Fatalf("%v set twice", r.Key)
				}
				seen[r.Key], live[r.Key] = true, r.Version+r.Owner.Name
			}
			for _, key := range u.Remove {
				if _, there := live[key]; seen[key] || !there {
					t.Fatalf("%v removed", key)
				}
				delete(live, key)
			}
		}
		want := map[Key]string{}
		u, _ := newSnapshot(t).Apply([]mesh.PortChange{last["a"], last["b"], last["c"]})
		for _, r := range u.Set {
			want[r.Key] = r.Version + r.Owner.Name
		}
		if diff := cmp.Diff(want, live); diff != "" {
			t.Fatalf("not as from scratch (-want +got):\n%s", diff)
		}
	})
}

func TestAccessLogFlag(t *testing.T) {
	var a AccessLog
	for _, value := range []string{"all", "errors", "off"} {
		if err := a.Set(value); err != nil || a.String() != value {
			t.Errorf("Set(%q): %v, %q", value, err, a)
		}
	}
	if err := a.Set("some"); err == nil || a != LogOff {
		t.Errorf("Set(some): %v, %q", err, a)
	}
}
