package xds_test

import (
	"fmt"
	"runtime"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// BenchmarkHeadless is what happens to one of the pods of an open headless Service, as many as can be open: how long it
// takes from the event to the bytes, and how many bytes each proxy gets. The metrics of the first are what the Service
// costs: bytes of its resources, heap of the control plane.
func BenchmarkHeadless(b *testing.B) {
	edits := map[string]func(m *mesh.Mesh, i int){
		"weight": func(m *mesh.Mesh, i int) {
			pod := metav1.ObjectMeta{Namespace: "bench", Name: "app-7", Labels: map[string]string{label.WeightKey: fmt.Sprint(1 + i%100)}}
			m.SetPod(&corev1.Pod{ObjectMeta: pod})
		},
		"fault":       func(m *mesh.Mesh, i int) { m.SetService(headlessService(i % 100)) },
		"pod-leaves":  func(m *mesh.Mesh, i int) { m.SetEndpointSlice(headlessSlice(0, 100-i%2)) },
		"pod-unready": func(m *mesh.Mesh, i int) { m.SetEndpointSlice(unready(headlessSlice(0, 100), i%2)) },
	}
	for name, edit := range edits {
		b.Run(name, func(b *testing.B) {
			before := heap()
			m, s, all := headlessCluster(b)
			kept := heap() - before
			b.ReportAllocs()
			size, resources := 0, 0
			for i := 0; b.Loop(); i++ {
				edit(m, i+1)
				update, _ := s.Apply(m.Flush().Ports)
				if len(update.Set)+len(update.Remove) == 0 {
					b.Fatal("the edit changed nothing")
				}
				resources = max(resources, len(update.Set)+len(update.Remove))
				size = max(size, sizeOf(update))
			}
			b.ReportMetric(float64(resources), "resources/update")
			b.ReportMetric(float64(size), "bytes/update")
			b.ReportMetric(float64(sizeOf(all)), "bytes/first")
			b.ReportMetric(float64(kept)/1e6, "heap-MB")
			runtime.KeepAlive(s)
		})
	}
}

// headlessCluster has one headless Service with 1,000 pods in ten slices.
func headlessCluster(b *testing.B) (*mesh.Mesh, *envoy.Snapshot, envoy.Update) {
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogAll})
	if err != nil {
		b.Fatal(err)
	}
	m, s := mesh.New(mesh.Config{}), envoy.NewSnapshot(translator)
	m.SetService(headlessService(0))
	for n := range 10 {
		m.SetEndpointSlice(headlessSlice(n, 100))
	}
	update, failures := s.Apply(m.Flush().Ports)
	if len(update.Set) != 1004 || len(failures) != 0 {
		b.Fatalf("%d resources, failures %v", len(update.Set), failures)
	}
	return m, s, update
}

func headlessService(abort int) *corev1.Service {
	labels := map[string]string{label.PortKey(80): "http"}
	if abort > 0 {
		labels["traffic.fault.abort.percentage"] = fmt.Sprint(abort)
	}
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "bench", Name: "app", Labels: labels},
		Spec:       corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
}

// headlessSlice has the first of a hundred pods.
func headlessSlice(n, pods int) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "bench", Name: fmt.Sprint("app-", n), Labels: map[string]string{discoveryv1.LabelServiceName: "app"},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for i := range pods {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.7.%d.%d", n, i)}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprint("app-", n*100+i)},
		})
	}
	return s
}

func unready(s *discoveryv1.EndpointSlice, pods int) *discoveryv1.EndpointSlice {
	no := false
	for i := range pods {
		s.Endpoints[i].Conditions.Ready = &no
	}
	return s
}

func sizeOf(u envoy.Update) (size int) {
	for _, r := range u.Set {
		size += len(r.Body.GetValue())
	}
	return size
}

func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}
