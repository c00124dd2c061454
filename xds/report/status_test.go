package report

import (
	"context"
	"log/slog"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// TestStatuses: kubectl get ingress shows the gateway's address where the gateway serves, and only one replica writes it.
func TestStatuses(t *testing.T) {
	names := []string{"ours", "others", "lost"}
	client := fake.NewClientset()
	for _, name := range names {
		i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
		i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: "192.0.2.9"}}
		if _, err := client.NetworkingV1().Ingresses("default").Create(t.Context(), i, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(o mesh.Object) *networkingv1.Ingress {
		i, err := client.NetworkingV1().Ingresses(o.Namespace).Get(context.Background(), o.Name, metav1.GetOptions{})
		if err != nil {
			return nil
		}
		return i
	}
	object := func(name string) mesh.Object { return mesh.Object{Kind: "Ingress", Namespace: "default", Name: name} }
	shown := func(name string) string {
		var text string
		for _, a := range get(object(name)).Status.LoadBalancer.Ingress {
			text += a.IP + a.Hostname + " "
		}
		return text
	}
	s := NewStatuses(client, get, slog.New(slog.DiscardHandler))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	defer func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	want := func(name, want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); shown(name) != want; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s shows %q, want %q", name, shown(name), want)
			}
		}
	}
	service := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.96.0.9"}}}
	service.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "203.0.113.1"}, {Hostname: "lb.example"}}
	s.SetService(service)
	s.Served(object("ours"), true)
	s.Served(object("lost"), false)
	if shown("ours") != "192.0.2.9 " {
		t.Error("a replica writes that does not lead")
	}
	s.SetLeading(true)
	want("ours", "203.0.113.1 lb.example ")
	want("lost", "")
	s.SetService(&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{"10.96.0.9"}}})
	want("ours", "10.96.0.9 ")
	s.Served(object("ours"), false)
	want("ours", "")
	if shown("others") != "192.0.2.9 " {
		t.Error("another controller's status was written")
	}
}
