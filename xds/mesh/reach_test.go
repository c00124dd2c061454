package mesh

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// headless is a headless Service with a port 80, which is 8080 in its pods.
func headless(name string, created int64) *corev1.Service {
	s := webService(name, corev1.ClusterIPNone)
	s.CreationTimestamp = metav1.Unix(created, 0)
	return s
}

// sliceOf has ready endpoints at those addresses, the pods NAME-0, NAME-1 and so on.
func sliceOf(service string, addresses ...string) *discoveryv1.EndpointSlice {
	s := webSlice(service)
	s.Endpoints = nil
	for i, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprint(service, "-", i)},
		})
	}
	return s
}

func podAt(name, address string, labels ...string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: meta(name, labels...), Status: corev1.PodStatus{PodIPs: []corev1.PodIP{{IP: address}}}}
}

// TestHeadlessEventConcernsItsKeys: a pod that comes or goes concerns its own Services, and those that want its address.
func TestHeadlessEventConcernsItsKeys(t *testing.T) {
	const open = "traffic.port.8080"
	tests := []struct {
		name  string
		event func(*Mesh)
		want  []string
	}{
		{
			name:  "an endpoint that another does not have concerns its Service",
			event: func(m *Mesh) { m.SetEndpointSlice(sliceOf("a", "10.0.0.1", "10.0.0.2", "10.0.0.3")) },
			want:  []string{"Service default/a"},
		},
		{
			name:  "one that another has concerns both",
			event: func(m *Mesh) { m.SetEndpointSlice(sliceOf("a", "10.0.0.1")) },
			want:  []string{"Service default/a", "Service default/b"},
		},
		{
			name:  "a pod's own port concerns whoever wants the address",
			event: func(m *Mesh) { m.SetPod(podAt("x", "10.0.0.9", open, "http")) },
			want:  []string{"Pod default/x", "Service default/b"},
		},
		{
			name:  "a pod without one concerns nobody else",
			event: func(m *Mesh) { m.SetPod(podAt("x", "10.0.0.9")) },
			want:  []string{"Pod default/x"},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := New(Config{})
			m.SetService(headless("a", 1))
			m.SetEndpointSlice(sliceOf("a", "10.0.0.1", "10.0.0.2"))
			m.SetService(headless("b", 2))
			m.SetEndpointSlice(sliceOf("b", "10.0.0.2", "10.0.0.9"))
			m.SetService(headless("c", 3))
			m.SetEndpointSlice(sliceOf("c", "10.0.0.8"))
			m.Flush()
			test.event(m)
			m.claim()
			var got []string
			for _, o := range slices.SortedFunc(maps.Keys(m.dirty), Object.Compare) {
				got = append(got, o.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("computed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLostAddressesAreToldOnce: the pods of a StatefulSet have the port label of its template, its headless Service has one,
// too. Its owner hears of it once, and not again with each pod that comes or goes.
func TestLostAddressesAreToldOnce(t *testing.T) {
	m := New(Config{})
	m.SetService(headless("db", 1))
	addresses := someAddresses("10.1.0.0", 1000)
	set := func(from, to int) {
		for i := from; i < to; i++ {
			p := podAt(fmt.Sprint("db-", i), addresses[i], "traffic.port.8080", "tcp")
			p.CreationTimestamp = metav1.Unix(int64(i), 0)
			m.SetPod(p)
		}
		m.SetEndpointSlice(sliceOf("db", addresses[:to]...))
	}
	set(0, 900)
	m.Flush()
	o := Object{Kind: "Service", Namespace: "default", Name: "db"}
	const want = `label traffic.port.80="http": some of its addresses are already others', such as 10.1.0.0:8080 of Pod default/db-0; ` +
		`in force: the others' labels, at these addresses`
	if told := m.Problems(o); len(told) != 1 || told[0].String() != want {
		t.Errorf("told %d, %v", len(told), told[:min(1, len(told))])
	}
	set(900, 1000)
	if changes := m.Flush(); len(changes.Problems) != 0 {
		t.Errorf("pods came, and it was told again: %v", changes.Problems)
	}
	for i := 10; i < 1000; i++ {
		m.Delete(Object{Kind: "Pod", Namespace: "default", Name: fmt.Sprint("db-", i)})
	}
	set(0, 10)
	if changes := m.Flush(); len(changes.Problems) != 0 {
		t.Errorf("pods went, and it was told again: %v", changes.Problems)
	}
}

// TestRandomAndWeights: labels that contradict each other are told once, whatever the number of ports.
func TestRandomAndWeights(t *testing.T) {
	m := New(Config{})
	s := webService("web", "10.96.0.1")
	s.Labels["traffic.port.81"], s.Labels["traffic.lb.policy"] = "tcp", "random"
	s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Port: 81})
	m.SetService(s)
	m.SetEndpointSlice(sliceOf("web", "10.0.0.1", "10.0.0.2", "10.0.0.3"))
	m.SetPod(podAt("web-1", "10.0.0.2", "traffic.endpoint.weight", "10"))
	m.Flush()
	var told []string
	for _, p := range m.Problems(Object{Kind: "Service", Namespace: "default", Name: "web"}) {
		told = append(told, p.String())
	}
	const want = `label traffic.lb.policy="random": RANDOM ignores weights, and the endpoints of port 80 have different ones, ` +
		`as 100 and 10; in force: the same share for each endpoint`
	if strings.Join(told, "\n") != want {
		t.Errorf("told %q, want %q", told, want)
	}
}
