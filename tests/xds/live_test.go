package xds

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// TestLabelsAreLive: on a Service that has every label, and on its pod, each is taken away and put back. Each change
// reaches Envoy, none touches a listener, and no request or connection that lasts notices any of them.
func TestLabelsAreLive(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	s := newShop(t, w)
	every := maps.Clone(s.labels)
	for _, key := range label.Table {
		if flips(key) && key.AppliesTo(label.Service) {
			every[key.Name] = key.Example
		}
	}
	c.publish(t, s.change(t))
	proxy := startSidecar(t, w, c)
	connections := []held{w.hold(t, shopAddress+":81"), w.holdRequest(t, shopAddress+":80")}
	s.labels = every
	c.publish(t, s.change(t))

	// acts changes the labels, and returns what was sent and what Envoy did to listeners.
	acts := func(what string) (sent, listeners int) {
		t.Helper()
		before := proxy.received(t, c)
		if a := c.publish(t, s.change(t)); a.Rejected > 0 {
			t.Errorf("%s: %+v", what, a)
		}
		for name, n := range proxy.received(t, c) {
			switch n -= before[name]; {
			case name == "listener" || strings.HasPrefix(name, "listener_manager."):
				listeners += n
			case !strings.Contains(name, "."):
				sent += n
			}
		}
		for _, h := range connections {
			if err := h.ask(); err != nil {
				t.Errorf("%s: %s: %v", what, h.name, err)
			}
		}
		return sent, listeners
	}
	flipped := 0
	for _, key := range label.Table {
		if !flips(key) {
			continue
		}
		flipped++
		on := s.labels
		if !key.AppliesTo(label.Service) {
			on = s.pod
			on[key.Name] = key.Example
			c.publish(t, s.change(t))
		}
		for _, value := range []string{"", key.Example} {
			on[key.Name] = value
			what := key.Name + "=" + value
			sent, listeners := acts(what)
			if sent == 0 {
				t.Errorf("%s: nothing was sent: it does nothing", what)
			}
			if listeners != 0 {
				t.Errorf("%s: %d changes of listeners", what, listeners)
			}
		}
	}
	if want := len(label.Table) - 4; flipped != want {
		t.Errorf("%d labels were changed, of %d", flipped, want)
	}

	// The control of this test: opening a port does count as a change of a listener.
	s.labels[label.PortKey(82)] = "http"
	if _, listeners := acts("opening a port"); listeners == 0 {
		t.Error("opening a port changes no listener")
	}
	if lines := proxy.complaints(); len(lines) > 0 {
		t.Errorf("Envoy complains: %q", lines)
	}
}

// flips reports whether the label may change at any time without a listener noticing: not what opens ports, which is a
// listener, nor tracing, which a listener switches on, nor what opts in.
func flips(key label.Key) bool {
	return key.Name != label.EnabledKey && key.Name != label.TracingKey && !strings.HasSuffix(key.Name, "<port>")
}

const shopAddress = "10.96.200.1"

// A shop is a Service with requests at port 80 and connections at port 81, and its one pod, from their labels to what the
// control plane publishes.
type shop struct {
	labels, pod map[string]string
	mesh        *mesh.Mesh
	snapshot    *envoy.Snapshot
}

func newShop(t *testing.T, w *world) *shop {
	t.Helper()
	translator, err := envoy.NewTranslator(envoy.Config{
		AccessLog: envoy.LogAll,
		Collector: envoy.Collector{Kind: envoy.Zipkin, Address: envoy.CollectorAddress{Host: outsideAddress, Port: 9411}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{
		labels:   map[string]string{label.PortKey(80): "http", label.PortKey(81): "tcp", label.TracingKey: "true"},
		pod:      map[string]string{},
		mesh:     mesh.New(mesh.Config{Collector: true}),
		snapshot: envoy.NewSnapshot(translator),
	}
	requests, bytes := int32(w.backend(t, "a")), int32(w.echo(t))
	port := func(name string, number int32) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: &name, Port: &number}
	}
	s.mesh.SetEndpointSlice(&discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "default", Name: "shop-1", Labels: map[string]string{discoveryv1.LabelServiceName: "shop"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{port("requests", requests), port("bytes", bytes), port("more", requests)},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{outsideAddress}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "shop-0"},
		}},
	})
	return s
}

// change tells the mesh of the labels, and returns what is different then.
func (s *shop) change(t *testing.T) envoy.Update {
	t.Helper()
	meta := func(name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{Namespace: "default", Name: name, Labels: maps.Clone(labels)}
	}
	s.mesh.SetPod(&corev1.Pod{ObjectMeta: meta("shop-0", s.pod)})
	s.mesh.SetService(&corev1.Service{
		ObjectMeta: meta("shop", s.labels),
		Spec: corev1.ServiceSpec{
			ClusterIP: shopAddress, ClusterIPs: []string{shopAddress},
			Ports: []corev1.ServicePort{{Name: "requests", Port: 80}, {Name: "bytes", Port: 81}, {Name: "more", Port: 82}},
		},
	})
	changes := s.mesh.Flush()
	for _, problem := range changes.Problems {
		t.Logf("%s: %v", problem.Object, problem.Problems)
	}
	update, failures := s.snapshot.Apply(changes.Ports)
	for _, f := range failures {
		t.Error(f)
	}
	return update
}
