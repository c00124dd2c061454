package report

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

const (
	manager = "ours/ingress"
	address = "203.0.113.1"
)

// A shelf is an API with Ingresses, and what an informer has of them.
type shelf struct {
	*Statuses
	client *fake.Clientset

	mu       sync.Mutex
	cached   map[string]*networkingv1.Ingress
	versions int
	writes   int
	// during, if any, is called while a write is under way.
	during func()
}

func newShelf(t *testing.T, ingresses ...*networkingv1.Ingress) *shelf {
	t.Helper()
	s := &shelf{client: fake.NewClientset(), cached: map[string]*networkingv1.Ingress{}}
	for _, i := range ingresses {
		if _, err := s.client.NetworkingV1().Ingresses("default").Create(t.Context(), i, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		s.cached[i.Name] = i
	}
	s.client.PrependReactor("patch", "ingresses", func(clienttesting.Action) (bool, runtime.Object, error) {
		s.mu.Lock()
		during := s.during
		s.during = nil
		s.writes++
		s.mu.Unlock()
		if during != nil {
			during()
		}
		return false, nil, nil
	})
	s.Statuses = NewStatuses(s.client, manager, func(o mesh.Object) *networkingv1.Ingress {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.cached[o.Name]
	}, slog.New(slog.DiscardHandler))
	s.SetService(balanced(address))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return s
}

// hear lets the informer have an Ingress as it is now.
func (s *shelf) hear(i *networkingv1.Ingress) {
	s.mu.Lock()
	s.versions++
	i.ResourceVersion = fmt.Sprint(s.versions)
	s.cached[i.Name] = i
	s.mu.Unlock()
	s.Changed(named(i.Name))
}

// change lets somebody write an Ingress, and the informer have it.
func (s *shelf) change(t *testing.T, i *networkingv1.Ingress) {
	t.Helper()
	if _, err := s.client.NetworkingV1().Ingresses("default").Update(t.Context(), i, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	s.hear(i)
}

// want waits until the API has these addresses, by Ingress.
func (s *shelf) want(t *testing.T, want map[string]string) {
	t.Helper()
	got := map[string]string{}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		for name := range want {
			i, err := s.client.NetworkingV1().Ingresses("default").Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			got[name] = strings.Join(shown(i), " ")
		}
		if maps.Equal(got, want) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("shown are %q, want %q", got, want)
		}
	}
}

func named(name string) mesh.Object {
	return mesh.Object{Kind: "Ingress", Namespace: "default", Name: name}
}

// showing is an Ingress with an address that somebody wrote.
func showing(name, address, by string) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	if address != "" {
		i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{IP: address}}
		i.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: by, Subresource: "status"}}
	}
	return i
}

func balanced(addresses ...string) *corev1.Service {
	s := &corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer, ClusterIPs: []string{"10.96.0.9"}}}
	for _, a := range addresses {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	return s
}

// TestStatuses: kubectl get ingress shows the gateway's address where the gateway serves, whatever was there, and nowhere
// else what a replica of ours wrote, be it of a time when this one did not run. Others' addresses stay.
func TestStatuses(t *testing.T) {
	s := newShelf(t, showing("new", "", ""), showing("migrated", "192.0.2.9", "nginx"),
		showing("lost-meanwhile", address, manager), showing("moved-and-lost", "203.0.113.7", manager),
		showing("others", "192.0.2.9", "nginx"), showing("others-same-address", address, "nginx"), showing("untold", address, manager))
	for name, served := range map[string]bool{
		"new": true, "migrated": true, "lost-meanwhile": false, "moved-and-lost": false, "others": false, "others-same-address": false,
	} {
		s.Served(named(name), served)
	}
	s.mu.Lock()
	if s.writes > 0 {
		t.Error("a replica writes that does not lead")
	}
	s.mu.Unlock()
	s.SetLeading(true)
	want := map[string]string{
		"new": address, "migrated": address, "lost-meanwhile": "", "moved-and-lost": "",
		"others": "192.0.2.9", "others-same-address": address, "untold": address,
	}
	s.want(t, want)
	for name, address := range map[string]string{"new": address, "migrated": address, "lost-meanwhile": "", "moved-and-lost": ""} {
		s.hear(showing(name, address, manager))
	}
	s.SetService(&corev1.Service{Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{"10.96.0.9"}}})
	want["new"], want["migrated"] = "10.96.0.9", "10.96.0.9"
	s.want(t, want)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes != 6 {
		t.Errorf("%d writes, want one for each change", s.writes)
	}
}

// TestStatusOfWhatIsLostMeanwhile: an Ingress that leaves the gateway while its address is being written shows it no longer,
// and one that comes back while it is being taken out shows it, although the informer does not have the write yet.
func TestStatusOfWhatIsLostMeanwhile(t *testing.T) {
	for name, served := range map[string]bool{"lost": true, "found": false} {
		before := map[bool]*networkingv1.Ingress{true: showing(name, "", ""), false: showing(name, address, manager)}[served]
		s := newShelf(t, before)
		written := make(chan bool)
		s.during = func() {
			s.Served(named(name), !served)
			close(written)
		}
		s.SetLeading(true)
		s.Served(named(name), served)
		<-written
		s.want(t, map[string]string{name: map[bool]string{true: address, false: ""}[served]})
		s.hear(showing(name, map[bool]string{true: address, false: ""}[served], manager))
		s.want(t, map[string]string{name: map[bool]string{true: "", false: address}[served]})
	}
}

// TestStatusThatAnotherWrites: two controllers that both serve an Ingress must not write in turns for ever.
func TestStatusThatAnotherWrites(t *testing.T) {
	s := newShelf(t, showing("shared", "", ""))
	s.SetLeading(true)
	s.Served(named("shared"), true)
	s.want(t, map[string]string{"shared": address})
	s.change(t, showing("shared", "192.0.2.9", "nginx"))
	s.Served(named("other"), true) // what is queued is done in order
	for deadline := time.Now().Add(10 * time.Second); s.queue.Len() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	s.want(t, map[string]string{"shared": "192.0.2.9"})
	s.SetLeading(true)
	s.want(t, map[string]string{"shared": address})
}

// TestStatusIsWrittenOnce: until the informer has what was written, nothing is written again.
func TestStatusIsWrittenOnce(t *testing.T) {
	s := newShelf(t, showing("a", "", ""), showing("b", "", ""))
	s.SetLeading(true)
	s.Served(named("a"), true)
	s.want(t, map[string]string{"a": address})
	s.Changed(named("a"))
	s.Served(named("b"), true) // which comes after
	s.want(t, map[string]string{"b": address})
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.writes != 2 {
		t.Errorf("%d writes for two Ingresses", s.writes)
	}
}

// TestForgottenStatuses: Ingresses come and go, as those of ACME do, and no replica may grow with them.
func TestForgottenStatuses(t *testing.T) {
	s := newShelf(t)
	for _, name := range []string{"a", "b"} {
		s.Served(named(name), false)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		s.Statuses.mu.Lock()
		left := slices.Collect(maps.Keys(s.served))
		s.Statuses.mu.Unlock()
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("remembered are %v", left)
		}
	}
}
