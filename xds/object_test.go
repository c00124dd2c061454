package xds_test

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

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
