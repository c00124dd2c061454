package e2e

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
)

// statusRounds is how many Ingresses go through each change.
const statusRounds = 20

// TestIngressStatus (F106) measures from each write to the status that follows from it, as a client that watches sees it:
// of an Ingress that is created, of others' class, ours again, the heir of an older one's path and without it again, and of
// a class that is deleted. Two replicas run, and the API server counts what they write.
func TestIngressStatus(t *testing.T) {
	s := watchStatuses(t)
	replicas, err := s.client.AppsV1().Deployments("traffic-system").Get(t.Context(), "traffic-control", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if replicas.Status.ReadyReplicas < 2 {
		t.Fatalf("%d replicas of traffic-control are ready, and one alone proves nothing", replicas.Status.ReadyReplicas)
	}
	before, writes := statusWrites(t, s.client), 0
	for i := range statusRounds {
		// Of two that are as old, to the second, the first by name has the path.
		older, younger, host := fmt.Sprint("older-", i), fmt.Sprint("younger-", i), fmt.Sprintf("status-%d.%s.example.com", i, s.namespace)
		since := s.create(t, older, host, "traffic-manager")
		s.measure(t, "created", older, s.address, since)
		s.create(t, younger, host, s.class)
		since = s.patch(t, older, "others")
		s.measure(t, "others' class", older, "", since)
		s.measure(t, "heir", younger, s.address, since)
		since = s.patch(t, older, "traffic-manager")
		s.measure(t, "our class", older, s.address, since)
		s.measure(t, "claim lost", younger, "", since)
		since = s.delete(t, older)
		s.measure(t, "heir", younger, s.address, since)
		writes += 6
	}
	since := time.Now()
	if err := s.client.NetworkingV1().IngressClasses().Delete(t.Context(), s.class, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	for i := range statusRounds {
		s.measure(t, "class deleted", fmt.Sprint("younger-", i), "", since)
		writes++
	}
	if got := statusWrites(t, s.client) - before; got != writes {
		t.Errorf("%d writes of statuses, and not %d: one for each change", got, writes)
	}
	for _, change := range slices.Sorted(maps.Keys(s.took)) {
		took := slices.Sorted(slices.Values(s.took[change]))
		t.Logf("%s: p50 %v, p99 %v, at most %v, of %d", change, ms(took[len(took)/2]), ms(took[len(took)*99/100]), ms(took[len(took)-1]), len(took))
	}
}

func ms(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// statuses is a client that watches the Ingresses of a namespace of its own.
type statuses struct {
	client    kubernetes.Interface
	namespace string
	// class is an IngressClass of our controller that nobody else uses.
	class string
	// address is the gateway's.
	address string
	events  <-chan watch.Event
	shown   map[string]string
	took    map[string][]time.Duration
}

func watchStatuses(t *testing.T) *statuses {
	t.Helper()
	s := &statuses{client: connect(t), shown: map[string]string{}, took: map[string][]time.Duration{}}
	s.namespace = createNamespace(t, s.client)
	s.class = s.namespace
	ours, err := s.client.NetworkingV1().IngressClasses().Get(t.Context(), "traffic-manager", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	class := &networkingv1.IngressClass{ObjectMeta: metav1.ObjectMeta{Name: s.class}, Spec: ours.Spec}
	if _, err := s.client.NetworkingV1().IngressClasses().Create(t.Context(), class, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.client.NetworkingV1().IngressClasses().Delete(context.WithoutCancel(t.Context()), s.class, metav1.DeleteOptions{})
	})
	gateway, err := s.client.CoreV1().Services("traffic-system").Get(t.Context(), "traffic-ingress", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.address = gateway.Status.LoadBalancer.Ingress[0].IP
	web := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Port: 80}}}}
	if _, err := s.client.CoreV1().Services(s.namespace).Create(t.Context(), web, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	w, err := s.client.NetworkingV1().Ingresses(s.namespace).Watch(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Stop)
	s.events = w.ResultChan()
	return s
}

// create, patch and delete return when they began.
func (s *statuses) create(t *testing.T, name, host, class string) (since time.Time) {
	t.Helper()
	since = time.Now()
	prefix := networkingv1.PathTypePrefix
	backend := networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}}
	paths := &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &prefix, Backend: backend}}}
	i := &networkingv1.Ingress{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: networkingv1.IngressSpec{
		IngressClassName: &class, Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: paths}}},
	}}
	if _, err := s.client.NetworkingV1().Ingresses(s.namespace).Create(t.Context(), i, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	return since
}

func (s *statuses) patch(t *testing.T, name, class string) (since time.Time) {
	t.Helper()
	since = time.Now()
	patch := fmt.Appendf(nil, `{"spec":{"ingressClassName":%q}}`, class)
	if _, err := s.client.NetworkingV1().Ingresses(s.namespace).Patch(t.Context(), name, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	return since
}

func (s *statuses) delete(t *testing.T, name string) (since time.Time) {
	t.Helper()
	since = time.Now()
	if err := s.client.NetworkingV1().Ingresses(s.namespace).Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	return since
}

// measure keeps how long after the beginning of a write the Ingress shows an address, or none.
func (s *statuses) measure(t *testing.T, change, name, address string, since time.Time) {
	t.Helper()
	s.shows(t, name, address)
	s.took[change] = append(s.took[change], time.Since(since))
}

// shows waits until the client sees that an Ingress has an address, or none.
func (s *statuses) shows(t *testing.T, name, address string) {
	t.Helper()
	limit := time.After(time.Minute)
	for s.shown[name] != address {
		select {
		case e := <-s.events:
			i, ok := e.Object.(*networkingv1.Ingress)
			if !ok {
				t.Fatalf("the watch ended: %v", e.Object)
			}
			var addresses []string
			for _, a := range i.Status.LoadBalancer.Ingress {
				addresses = append(addresses, a.IP)
			}
			s.shown[i.Name] = strings.Join(addresses, " ")
		case <-limit:
			t.Fatalf("after a minute, %s shows %q, and not %q", name, s.shown[name], address)
		}
	}
}

// statusWrites is how many writes of Ingresses' statuses the API server has answered.
func statusWrites(t *testing.T, client kubernetes.Interface) int {
	t.Helper()
	writes := 0
	for _, metric := range apiMetrics(t, client)["apiserver_request_total"].GetMetric() {
		labels := map[string]string{}
		for _, l := range metric.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if labels["resource"] == "ingresses" && labels["subresource"] == "status" && labels["verb"] != "GET" {
			writes += int(metric.GetCounter().GetValue())
		}
	}
	return writes
}
