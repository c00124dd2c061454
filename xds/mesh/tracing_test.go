package mesh

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// TestUncollected: who labels for tracing in an installation without a collector looks for spans that nobody keeps.
func TestUncollected(t *testing.T) {
	labels := map[string]string{"traffic.port.80": "http", label.TracingKey: "true"}
	tests := []struct {
		object Object
		set    func(*Mesh)
	}{
		{Object{Kind: "Service", Namespace: "default", Name: "web"}, func(m *Mesh) {
			m.SetService(&corev1.Service{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Labels: labels},
				Spec:       corev1.ServiceSpec{ClusterIP: "10.0.0.1", Ports: []corev1.ServicePort{{Port: 80}}},
			})
		}},
		{Object{Kind: "Pod", Namespace: "default", Name: "web-0"}, func(m *Mesh) {
			m.SetPod(&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web-0", Labels: labels},
				Status:     corev1.PodStatus{PodIP: "10.1.0.1", PodIPs: []corev1.PodIP{{IP: "10.1.0.1"}}},
			})
		}},
	}
	for _, test := range tests {
		for _, collector := range []bool{false, true} {
			m := New(Config{Collector: collector})
			test.set(m)
			m.Flush()
			problems := m.Problems(test.object)
			if collector && len(problems) > 0 {
				t.Errorf("%s, with a collector: %v", test.object, problems)
			}
			if !collector && (len(problems) != 1 || !strings.Contains(problems[0].String(), "no collector is configured")) {
				t.Errorf("%s, without a collector: %v", test.object, problems)
			}
		}
	}
}
