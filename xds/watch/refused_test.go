package watch

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
	"time"

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
