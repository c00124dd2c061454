package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

const (
	ingresses = 1000
	// moreEach is how many more Ingresses of each kind a round has.
	moreEach = 20
	system   = "traffic-system"
)

// BenchmarkIngress prints how long it takes from just before one more Ingress is written to the Kubernetes API until the
// gateway answers its host with 200, at a thousand Ingresses with a host and a certificate each; and the memory of the gateway
// and of the control plane. Each has one replica meanwhile: several would do the same work on the same processors.
func BenchmarkIngress(b *testing.B) {
	f := figures.New()
	client := newClient(b)
	scaled(b, client, "traffic-control", 1)
	scaled(b, client, "traffic-ingress", 1)
	e := &edge{client: client, namespace: newNamespace(b, client), address: gatewayAddress(b, client)}
	e.chain, e.key = injected.Pair(b, 24*time.Hour, "*.bench.example")
	e.backend(b)
	f.Goal("https to first 200 p99 ms", 100)
	f.Goal("http to first 200 p99 ms", 100)
	e.memory(b, f, "empty: ")
	begin := time.Now()
	e.populate(b)
	e.until200(b, "https", ingresses-1)
	f.Add("first 1,000 s", time.Since(begin).Seconds())
	for b.Loop() {
		for round := range *figures.Rounds {
			for _, scheme := range []string{"http", "https"} {
				var took []time.Duration
				for i := range moreEach {
					took = append(took, e.oneMore(b, scheme, ingresses+round*moreEach+i))
				}
				f.Times(scheme+" to first 200", took)
			}
		}
	}
	e.memory(b, f, "")
	f.Print(b)
}

// An edge is the gateway and the objects of a benchmark, in a namespace of its own.
type edge struct {
	client    kubernetes.Interface
	namespace string
	address   string // of the gateway's Service
	chain     []byte
	key       []byte
}

// scaled gives a Deployment of the product other replicas until the benchmark's end.
func scaled(b *testing.B, client kubernetes.Interface, name string, replicas int32) {
	b.Helper()
	scale := func(ctx context.Context, replicas int32) (before int32, err error) {
		s, err := client.AppsV1().Deployments(system).GetScale(ctx, name, metav1.GetOptions{})
		if err != nil {
			return 0, err
		}
		before, s.Spec.Replicas = s.Spec.Replicas, replicas
		_, err = client.AppsV1().Deployments(system).UpdateScale(ctx, name, s, metav1.UpdateOptions{})
		return before, err
	}
	before, err := scale(b.Context(), replicas)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if _, err := scale(context.WithoutCancel(b.Context()), before); err != nil {
			b.Error(err)
		}
	})
	waitFor(b, fmt.Sprintf("%d of %s in the cluster", replicas, name), func(ctx context.Context) (bool, error) {
		s, err := client.AppsV1().Deployments(system).GetScale(ctx, name, metav1.GetOptions{})
		return err == nil && s.Status.Replicas == replicas, err
	})
}

func gatewayAddress(b *testing.B, client kubernetes.Interface) string {
	b.Helper()
	s, err := client.CoreV1().Services(system).Get(b.Context(), "traffic-ingress", metav1.GetOptions{})
	if err != nil {
		b.Fatal(err)
	}
	if len(s.Status.LoadBalancer.Ingress) == 0 {
		b.Fatal("Service traffic-ingress has no address")
	}
	return s.Status.LoadBalancer.Ingress[0].IP
}

// healthPath is what the backend answers with 200.
const healthPath = "/healthz"

// backend makes Service web of traffic-control's status port: who answers does not matter, and it is there.
func (e *edge) backend(b *testing.B) {
	b.Helper()
	var pods *corev1.PodList
	waitFor(b, "one pod of traffic-control", func(ctx context.Context) (one bool, err error) {
		pods, err = e.client.CoreV1().Pods(system).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=traffic-control"})
		// A pod that ends is still listed.
		return err == nil && len(pods.Items) == 1, err
	})
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "web"}, Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}
	if _, err := e.client.CoreV1().Services(e.namespace).Create(b.Context(), service, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	name, port := "http", int32(8080)
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "web", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{pods.Items[0].Status.PodIP}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	if _, err := e.client.DiscoveryV1().EndpointSlices(e.namespace).Create(b.Context(), slice, metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
}

func (e *edge) populate(b *testing.B) {
	b.Helper()
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(16)
	for n := range ingresses {
		group.Go(func() error {
			if err := e.secret(ctx, n); err != nil {
				return err
			}
			return e.ingress(ctx, "https", n)
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
}

func (e *edge) secret(ctx context.Context, n int) error {
	_, err := e.client.CoreV1().Secrets(e.namespace).Create(ctx, &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("https-", n)}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{corev1.TLSCertKey: e.chain, corev1.TLSPrivateKeyKey: e.key},
	}, metav1.CreateOptions{})
	return err
}

func hostOf(scheme string, n int) string { return fmt.Sprintf("%s-%d.bench.example", scheme, n) }

func (e *edge) ingress(ctx context.Context, scheme string, n int) error {
	class, prefix, host := "traffic-manager", networkingv1.PathTypePrefix, hostOf(scheme, n)
	i := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint(scheme, "-", n)},
		Spec: networkingv1.IngressSpec{IngressClassName: &class, Rules: []networkingv1.IngressRule{{
			Host: host,
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{Paths: []networkingv1.HTTPIngressPath{{
				Path: "/", PathType: &prefix, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}},
				},
			}}}},
		}}},
	}
	if scheme == "https" {
		i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: fmt.Sprint("https-", n)}}
	}
	_, err := e.client.NetworkingV1().Ingresses(e.namespace).Create(ctx, i, metav1.CreateOptions{})
	return err
}

// oneMore writes an Ingress, whose Secret is there already, and returns how long it takes to answer.
func (e *edge) oneMore(b *testing.B, scheme string, n int) time.Duration {
	b.Helper()
	if scheme == "https" {
		if err := e.secret(b.Context(), n); err != nil {
			b.Fatal(err)
		}
	}
	begin := time.Now()
	if err := e.ingress(b.Context(), scheme, n); err != nil {
		b.Fatal(err)
	}
	return e.until200(b, scheme, n).Sub(begin)
}

// askEach is between two questions: asking oftener would take the processors from what is measured, and more than it adds.
const askEach = 3 * time.Millisecond

// until200 asks, each time over a connection of its own, until the host answers with 200.
func (e *edge) until200(b *testing.B, scheme string, n int) time.Time {
	b.Helper()
	port := map[string]string{"http": "80", "https": "443"}[scheme]
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, net.JoinHostPort(e.address, port))
		},
	}}
	var got answer
	var err error
	for begin := time.Now(); time.Since(begin) < time.Minute; time.Sleep(askEach) {
		if got, err = ask(client, scheme+"://"+hostOf(scheme, n)+healthPath); err == nil && got.status == http.StatusOK {
			return time.Now()
		}
	}
	b.Fatalf("%s does not answer: %v %v", hostOf(scheme, n), got, err)
	return time.Time{}
}

// memory adds what the gateway's Envoy and the control plane take.
func (e *edge) memory(b *testing.B, f *figures.Table, prefix string) {
	b.Helper()
	for _, from := range []struct{ component, port, path, metric, name string }{
		{"traffic-ingress", "8900", "/stats/prometheus", "envoy_server_memory_physical_size{}", "gateway physical MB"},
		{"traffic-ingress", "8900", "/stats/prometheus", "envoy_server_memory_allocated{}", "gateway allocated MB"},
		{"traffic-control", "8080", "/metrics", "process_resident_memory_bytes", "traffic-control resident MB"},
	} {
		pods, err := e.client.CoreV1().Pods(system).List(b.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + from.component})
		if err != nil {
			b.Fatal(err)
		}
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				continue
			}
			text, err := e.client.CoreV1().Pods(system).ProxyGet("http", pod.Name, from.port, from.path, nil).DoRaw(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			f.Add(prefix+from.name, metric(b, string(text), from.metric)/1e6)
		}
	}
}

func metric(b *testing.B, text, name string) float64 {
	b.Helper()
	for line := range strings.Lines(text) {
		if value, is := strings.CutPrefix(line, name+" "); is {
			var number float64
			if _, err := fmt.Sscan(value, &number); err != nil {
				b.Fatal(err)
			}
			return number
		}
	}
	b.Fatalf("no metric %s", name)
	return 0
}
