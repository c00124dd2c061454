package watch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// TestRefusedSecretIsReplaced: a Secret that a gateway refuses is published as the fallback, and told; a refusal that comes too
// late says nothing about what has come since.
func TestRefusedSecretIsReplaced(t *testing.T) {
	g, served := gateways{make(chan published, 10)}, make(chan string, 10)
	next := func() envoy.Resource {
		t.Helper()
		for {
			select {
			case p := <-g.updates:
				p.applied(Applied{})
				for _, r := range p.Set {
					if r.Name == "default/web" && strings.HasSuffix(r.Type, "Secret") {
						return r
					}
				}
			case <-time.After(10 * time.Second):
				t.Fatal("nothing is published to gateways")
			}
		}
	}
	c := start(t, withGateway(t, g, served), &networkingv1.Ingress{ObjectMeta: meta("web"), Spec: networkingv1.IngressSpec{
		TLS: []networkingv1.IngressTLS{{Hosts: []string{"a.example"}, SecretName: "web"}},
	}})
	c.wantNext("")
	fallback := next()
	c.wantProblem("Ingress default/web spec.tls=web")
	secret := &corev1.Secret{ObjectMeta: meta("web"), Type: corev1.SecretTypeTLS, Data: pairFor(t, "a.example")}
	if _, err := c.objects.CoreV1().Secrets("default").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	good := next()
	c.wantProblem("Ingress default/web")
	c.watcher.source.Refused(good.Key, good.Version, good.Owner)
	if got := next(); got.Version != fallback.Version {
		t.Errorf("published %s in place of what was refused, want %s", got.Version, fallback.Version)
	}
	c.wantProblem("Ingress default/web spec.tls=web")
	secret.Data = pairFor(t, "a.example")
	if _, err := c.objects.CoreV1().Secrets("default").Update(t.Context(), secret, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	renewed := next()
	c.wantProblem("Ingress default/web")
	c.watcher.source.Refused(good.Key, good.Version, good.Owner)
	c.watcher.source.Refused(renewed.Key, renewed.Version, renewed.Owner)
	if got := next(); renewed.Version == fallback.Version || got.Version != fallback.Version {
		t.Errorf("published %s after %s", got.Version, renewed.Version)
	}
}

// TestWhatIsRefused: routes that a gateway refuses do not cost a host its certificate, and a certificate that is refused is replaced
// even if another replica says in that moment that it refused the one before.
func TestWhatIsRefused(t *testing.T) {
	_, c := idle(t)
	withGateway(t, gateways{make(chan published, 10)}, make(chan string, 10))(c)
	c.metrics = prometheus.NewRegistry()
	w := c.newWatcher()
	publish := func() map[string]envoy.Resource {
		changes, _ := w.fold()
		all := map[string]envoy.Resource{}
		for _, r := range w.translate(changes).gateway.Set {
			all[abbreviate(r.Key)] = r
		}
		return all
	}
	w.model.gateway.SetIngress(&networkingv1.Ingress{ObjectMeta: meta("web"), Spec: networkingv1.IngressSpec{
		TLS: []networkingv1.IngressTLS{{Hosts: []string{"a.example"}, SecretName: "web"}},
	}})
	first := publish()
	fallback, routes := first["Secret/default/web"], first["RouteConfiguration/https/default/web"]
	w.model.gateway.SetSecret(&corev1.Secret{ObjectMeta: meta("web"), Data: pairFor(t, "a.example")})
	good := publish()["Secret/default/web"]
	if routes.Version == "" || good.Version == "" || good.Version == fallback.Version {
		t.Fatalf("published %q, %q and %q", routes.Version, fallback.Version, good.Version)
	}
	w.source.Refused(routes.Key, routes.Version, routes.Owner)
	if got := publish(); len(got) > 0 {
		t.Errorf("routes were refused, and published is %v", slices.Sorted(maps.Keys(got)))
	}
	w.source.Refused(good.Key, good.Version, good.Owner)
	w.source.Refused(fallback.Key, fallback.Version, fallback.Owner)
	if got := publish()["Secret/default/web"]; got.Version != fallback.Version {
		t.Errorf("published %q in place of what was refused", got.Version)
	}
}

// pairFor is the data of a Secret with a certificate that is like no other.
func pairFor(t *testing.T, host string) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		corev1.TLSCertKey:       pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}
}
