package envoy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// TestCollectorCluster: proxies know the collector before the first listener that reports to it, and until after the
// last: what refers to a cluster that is not there is refused.
func TestCollectorCluster(t *testing.T) {
	s := newSnapshot(t)
	const (
		has   = "+Cluster/traffic-tracing"
		loses = "-Cluster/traffic-tracing"
	)
	steps := []struct {
		name    string
		changes []mesh.PortChange
		want    []string // of the collector's cluster and of listeners
	}{
		{"nothing is traced", []mesh.PortChange{opens("a", label.HTTP, "10.0.0.1")}, []string{"+Listener/10.0.0.1:80"}},
		{"the first", []mesh.PortChange{traced(opens("a", label.HTTP, "10.0.0.1"))}, []string{has, "+Listener/10.0.0.1:80"}},
		{"a second", []mesh.PortChange{traced(opens("b", label.HTTP2, "10.0.0.2"))}, []string{"+Listener/10.0.0.2:80"}},
		{"tcp has no requests", []mesh.PortChange{traced(opens("c", label.TCP, "10.0.0.3"))}, []string{"+Listener/10.0.0.3:80"}},
		{"the first goes", []mesh.PortChange{closes("a")}, []string{"-Listener/10.0.0.1:80"}},
		{
			"one comes with the other's address as that goes",
			[]mesh.PortChange{traced(opens("a", label.HTTP, "10.0.0.2")), closes("b")},
			[]string{"+Listener/10.0.0.2:80"},
		},
		{"what cannot be translated keeps it", []mesh.PortChange{opens("a", label.Protocol(99), "10.0.0.2")}, nil},
		{"the last is switched off", []mesh.PortChange{opens("a", label.HTTP, "10.0.0.2")}, []string{"+Listener/10.0.0.2:80", loses}},
	}
	for _, step := range steps {
		u, _ := s.Apply(step.changes)
		var got []string
		for _, word := range words(u) {
			if word == has || word == loses || word[1:9] == "Listener" {
				got = append(got, word)
			}
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	if len(s.users) != 0 {
		t.Errorf("still counted: %v", s.users)
	}
}

// TestWithoutCollector: a label alone must not put headers into requests.
func TestWithoutCollector(t *testing.T) {
	translate := func(change mesh.PortChange) []string {
		translator, err := NewTranslator(Config{AccessLog: LogAll})
		if err != nil {
			t.Fatal(err)
		}
		resources, err := translator.Port(change.Ports[0])
		if err != nil {
			t.Fatal(err)
		}
		var versions []string
		for _, r := range resources {
			versions = append(versions, r.Name+" "+r.Version)
		}
		return versions
	}
	plain, labelled := translate(opens("a", label.HTTP, "10.0.0.1")), translate(traced(opens("a", label.HTTP, "10.0.0.1")))
	if diff := cmp.Diff(plain, labelled); diff != "" {
		t.Errorf("without a collector (-without label +with):\n%s", diff)
	}
}

func TestCollectorFlags(t *testing.T) {
	var kind CollectorKind
	for _, value := range []string{"zipkin", "otlp"} {
		if err := kind.Set(value); err != nil || kind.String() != value {
			t.Errorf("Set(%q): %v, %q", value, err, kind)
		}
	}
	if err := kind.Set("jaeger"); err == nil || kind != OTLP {
		t.Errorf("Set(jaeger): %v, %q", err, kind)
	}
	for _, value := range []string{"", "zipkin:9411", "zipkin.tracing.svc:9411", "10.1.2.3:1", "[fd00::1]:65535"} {
		var a CollectorAddress
		if err := a.Set(value); err != nil || a.String() != value {
			t.Errorf("Set(%q): %v, %q", value, err, a.String())
		}
	}
	for _, value := range []string{
		"zipkin", ":9411", "zipkin:", "zipkin:0", "zipkin:65536", "zipkin:http", "http://zipkin:9411", "zip_kin:9411",
		"zipkin.:9411", "-zipkin:9411", "zipkin:9411/api", "fd00::1:9411",
	} {
		before := CollectorAddress{Host: "before", Port: 1}
		a := before
		if err := a.Set(value); err == nil || a != before {
			t.Errorf("Set(%q): %v, %q", value, err, a.String())
		}
	}
}
