package watch

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// TestStrip: an informer must not hold what the mesh does not read, and must keep what it reads.
func TestStrip(t *testing.T) {
	full := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Labels: map[string]string{"a": "b", "traffic.port.80": "http"}, GenerateName: "p-",
			Finalizers: []string{"f"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
			Annotations: map[string]string{label.ProxyAnnotation: "v1", "big": "x"},
		},
		Spec: corev1.PodSpec{HostNetwork: true, OS: &corev1.PodOS{Name: "linux"}, Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{
			Phase: "Running", PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, HostIP: "192.0.2.1",
			Conditions: []corev1.PodCondition{{Type: "Ready"}}, ContainerStatuses: []corev1.ContainerStatus{{Name: "c"}},
		},
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Labels: map[string]string{"traffic.port.80": "http"},
			Annotations: map[string]string{label.ProxyAnnotation: "v1"},
		},
		Spec:   corev1.PodSpec{HostNetwork: true, OS: &corev1.PodOS{Name: "linux"}},
		Status: corev1.PodStatus{Phase: "Running", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}},
	}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{
			Labels: map[string]string{"a": "b", label.EnabledKey: "true"}, Annotations: map[string]string{"big": "x"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
	}
	stripped := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{label.EnabledKey: "true"}}}
	for _, test := range []struct{ full, want any }{
		{full, want},
		{
			&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b", "traffic.port.80": "http"}},
				Spec:       corev1.ServiceSpec{Selector: map[string]string{"a": "b"}, ClusterIP: "10.96.0.1"},
			},
			&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"traffic.port.80": "http"}}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"},
			},
		},
		{
			&discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b", discoveryv1.LabelServiceName: "s"}},
				Endpoints: []discoveryv1.Endpoint{{
					Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)},
					NodeName: ptr("n"), Zone: ptr("z"), TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p", UID: "u", Namespace: "default"},
				}},
			},
			&discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{discoveryv1.LabelServiceName: "s"}},
				Endpoints: []discoveryv1.Endpoint{{
					Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)},
					TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "p"},
				}},
			},
		},
		{&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template}, Status: appsv1.DeploymentStatus{Replicas: 1}}, &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: stripped}}},
		{&appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: template}, Status: appsv1.StatefulSetStatus{Replicas: 1}}, &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: stripped}}},
		{&appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: template}, Status: appsv1.DaemonSetStatus{NumberReady: 1}}, &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: stripped}}},
		{cache.DeletedFinalStateUnknown{Key: "default/gone"}, cache.DeletedFinalStateUnknown{Key: "default/gone"}},
	} {
		got, err := strip(test.full)
		if err != nil {
			t.Fatal(err)
		}
		if p, ok := got.(*pod); ok {
			got = p.whole()
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", test.want, diff)
		}
	}
}
