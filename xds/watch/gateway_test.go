package watch

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// gateways takes what is published to gateways.
type gateways struct{ updates chan published }

func (g gateways) Publish(u envoy.Update, applied func(Applied)) { g.updates <- published{u, applied} }

// withGateway makes a cluster's Watcher serve Ingresses, too.
func withGateway(t *testing.T, g gateways, served chan string) func(*cluster) {
	return func(c *cluster) {
		c.gateway = func(source *Source, translator *envoy.Translator) *GatewayConfig {
			if err := source.FollowIngresses(c.objects, nil); err != nil {
				t.Fatal(err)
			}
			resources, err := envoy.NewGateway(translator, envoy.GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, Fallback: ingress.Pair{Chain: []byte("c"), Key: []byte("k")}})
			if err != nil {
				t.Fatal(err)
			}
			return &GatewayConfig{
				Model: ingress.Config{Controller: "ours/ingress"}, Resources: resources, Publisher: g,
				OnServed: func(o mesh.Object, is bool) {
					served <- o.String() + map[bool]string{true: " is served", false: " is not"}[is]
				},
			}
		}
	}
}

// TestIngressesGoToGateways: what an Ingress names reaches gateways and no sidecar, and no key reaches the log.
func TestIngressesGoToGateways(t *testing.T) {
	g, served := gateways{make(chan published, 10)}, make(chan string, 10)
	next := func() string {
		t.Helper()
		select {
		case p := <-g.updates:
			p.applied(Applied{})
			return p.String()
		case <-time.After(10 * time.Second):
			t.Fatal("nothing is published to gateways")
		}
		return ""
	}
	host, kind := "a.example", networkingv1.PathTypePrefix
	i := &networkingv1.Ingress{ObjectMeta: meta("web"), Spec: networkingv1.IngressSpec{
		Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
			Paths: []networkingv1.HTTPIngressPath{{Path: "/", PathType: &kind, Backend: networkingv1.IngressBackend{
				Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}},
			}}},
		}}}},
		TLS: []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: "web"}},
	}}
	c := start(t, withGateway(t, g, served), service("web", "10.96.0.1"))
	c.wantNext("")
	if got := next(); got != "+RouteConfiguration/http +Listener/http" {
		t.Fatalf("at first: %s", got)
	}
	if _, err := c.objects.NetworkingV1().Ingresses("default").Create(t.Context(), i, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := next(); !strings.Contains(got, "+Cluster/80|default|web.outbound") || !strings.Contains(got, "+Secret/default/web") {
		t.Errorf("published %s", got)
	}
	if got := <-served; got != "Ingress default/web is served" {
		t.Error(got)
	}
	c.wantProblem("Ingress default/web spec.tls=web")
	c.wantGauge(1)
	certificates := func(state string) float64 {
		return testutil.ToFloat64(c.watcher.metrics.certificates.WithLabelValues(state))
	}
	if unusable, expiring := certificates("unusable"), certificates("expiring"); unusable != 1 || expiring != 0 {
		t.Errorf("counted %g certificates that cannot be used, %g that end soon", unusable, expiring)
	}
	const key = "not to be seen"
	secret := &corev1.Secret{ObjectMeta: meta("web"), Type: corev1.SecretTypeTLS, Data: map[string][]byte{
		corev1.TLSCertKey: []byte("x"), corev1.TLSPrivateKeyKey: []byte(key),
	}}
	if _, err := c.objects.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	c.wantProblem("Ingress default/web spec.tls=web")
	if err := c.objects.NetworkingV1().Ingresses("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := next(); !strings.Contains(got, "-Secret/default/web") {
		t.Errorf("published %s", got)
	}
	if got := <-served; got != "Ingress default/web is not" {
		t.Error(got)
	}
	if unusable := certificates("unusable"); unusable != 0 {
		t.Errorf("%g certificates of no Ingress cannot be used", unusable)
	}
	for len(c.log.all) > 0 {
		if line := <-c.log.all; strings.Contains(line, key) {
			t.Errorf("the log has %s", line)
		}
	}
	if len(c.updates) > 0 {
		t.Error("something went to sidecars")
	}
}

// TestRepairedIngress: what could not be translated is told until it can be, and no longer, whether the Ingress is repaired or
// gone; and not again at every change of another.
func TestRepairedIngress(t *testing.T) {
	_, c := idle(t)
	withGateway(t, gateways{make(chan published, 10)}, make(chan string, 10))(c)
	c.metrics = prometheus.NewRegistry()
	w := c.newWatcher()
	flush := func(host string) string {
		t.Helper()
		w.model.gateway.SetIngress(&networkingv1.Ingress{ObjectMeta: meta("web"), Spec: networkingv1.IngressSpec{
			Rules:          []networkingv1.IngressRule{{Host: host}},
			DefaultBackend: &networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}}},
		}})
		w.translate(w.model.flush())
		select {
		case got := <-c.problems:
			return got
		default:
			return "nothing"
		}
	}
	w.model.SetService(service("web", "10.96.0.1"))
	const broken = "a\nb.example"
	for _, step := range []struct{ host, want string }{
		{"a.example", "nothing"},
		{broken, "Ingress default/web spec=" + broken},
		{broken, "nothing"},
		{"a.example", "Ingress default/web"},
		{"b.example", "nothing"},
		{broken, "Ingress default/web spec=" + broken},
	} {
		if got := flush(step.host); got != step.want {
			t.Fatalf("with host %q it is told %q, not %q", step.host, got, step.want)
		}
	}
	w.model.gateway.Delete(mesh.Object{Kind: ingress.Ingress, Namespace: "default", Name: "web"})
	w.translate(w.model.flush())
	if got := <-c.problems; got != "Ingress default/web" {
		t.Errorf("when it is gone it is told %q", got)
	}
}

// TestStripIngress: an informer keeps of a Secret the pair, of an Ingress what is read.
func TestStripIngress(t *testing.T) {
	s, err := stripSecret(&corev1.Secret{ObjectMeta: meta("s", "a", "b"), Data: map[string][]byte{"tls.crt": {1}, "tls.key": {2}, "ca.crt": {3}}})
	if err != nil || len(s.(*corev1.Secret).Data) != 2 || len(s.(*corev1.Secret).Labels) != 0 {
		t.Errorf("kept %d of a Secret, %v", len(s.(*corev1.Secret).Data), err)
	}
	large := corev1.Secret{ObjectMeta: meta("s"), Data: map[string][]byte{"tls.crt": make([]byte, 1<<20)}}
	if s, err = stripSecret(&large); err != nil || s.(*corev1.Secret).Size() > 100 {
		t.Errorf("kept %d bytes of a large Secret, %v", s.(*corev1.Secret).Size(), err)
	}
	full := &networkingv1.Ingress{ObjectMeta: meta("i")}
	full.Annotations = map[string]string{"traffic.ingress/x": "1", ingress.ClassAnnotation: "c", "kubectl.kubernetes.io/last-applied-configuration": "{}"}
	i, err := stripIngress(full)
	if err != nil || len(i.(*networkingv1.Ingress).Annotations) != 2 {
		t.Errorf("kept %v, %v", i.(*networkingv1.Ingress).Annotations, err)
	}
}
