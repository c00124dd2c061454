package xds_test

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// BenchmarkLabelEdit is the way of one label edit from the informer's event to the bytes that proxies get. It must take
// as long in a cluster of ten thousand Services as in one of a hundred.
func BenchmarkLabelEdit(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		edits := map[string]func(m *mesh.Mesh, i int){
			"weight": func(m *mesh.Mesh, i int) {
				m.SetWorkload("Deployment", benchMeta(0, label.WeightKey, fmt.Sprint(1+i%100)), nil)
			},
			"open-close": func(m *mesh.Mesh, i int) { m.SetService(benchService(0, i%2 == 0)) },
		}
		for name, edit := range edits {
			b.Run(fmt.Sprintf("%s/services=%d", name, services), func(b *testing.B) {
				m, s := benchCluster(b, services)
				b.ReportAllocs()
				size := 0
				for i := 0; b.Loop(); i++ {
					edit(m, i+1)
					update, _ := s.Apply(m.Flush().Ports)
					if len(update.Set)+len(update.Remove) == 0 {
						b.Fatal("the edit changed nothing")
					}
					for _, r := range update.Set {
						size = max(size, len(r.Body.Value))
					}
				}
				b.ReportMetric(float64(size), "bytes/resource")
			})
		}
	}
}

// BenchmarkStart is the time from all objects to all bytes.
func BenchmarkStart(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchCluster(b, services)
			}
		})
	}
}

// benchCluster has Services of one open port with two pods of a Deployment each.
func benchCluster(b *testing.B, services int) (*mesh.Mesh, *envoy.Snapshot) {
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogAll})
	if err != nil {
		b.Fatal(err)
	}
	m, s := mesh.New(mesh.Config{KubernetesAPI: true}), envoy.NewSnapshot(translator)
	for n := range services {
		m.SetService(benchService(n, true))
		m.SetEndpointSlice(benchSlice(n))
		m.SetWorkload("Deployment", benchMeta(n), nil)
		m.SetWorkload("ReplicaSet", controlledBy(benchMeta(n), "Deployment"), nil)
		for i := range 2 {
			pod := controlledBy(benchMeta(n), "ReplicaSet")
			pod.Name = fmt.Sprint(pod.Name, "-", i)
			m.SetPod(&corev1.Pod{ObjectMeta: *pod})
		}
	}
	update, failures := s.Apply(m.Flush().Ports)
	if len(update.Set) != 4*services || len(failures) != 0 {
		b.Fatalf("%d resources, failures %v", len(update.Set), failures)
	}
	return m, s
}

func benchMeta(n int, labels ...string) *metav1.ObjectMeta {
	meta := &metav1.ObjectMeta{Namespace: "bench", Name: fmt.Sprint("app-", n)}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(meta, labels[i], labels[i+1])
	}
	return meta
}

func controlledBy(meta *metav1.ObjectMeta, kind string) *metav1.ObjectMeta {
	yes := true
	meta.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: meta.Name, Controller: &yes}}
	return meta
}

func benchService(n int, open bool) *corev1.Service {
	ip := fmt.Sprintf("10.%d.%d.%d", 100+n>>16, n>>8&255, n&255)
	s := &corev1.Service{ObjectMeta: *benchMeta(n), Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}}
	if open {
		s.Labels = map[string]string{label.PortKey(80): "http"}
	}
	return s
}

func benchSlice(n int) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  *benchMeta(n, discoveryv1.LabelServiceName, fmt.Sprint("app-", n)),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for i := range 2 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 2*i+n>>16, n>>8&255, n&255)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprint("app-", n, "-", i)},
		})
	}
	return s
}
