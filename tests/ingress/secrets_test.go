package ingress

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// mustStaple is the TLS feature extension (RFC 7633) that asks for a stapled answer of the authority.
var mustStaple = pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 3, 2, 1, 5}}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestBrokenSecrets: a Secret that cannot be used harms its hosts alone, which get a certificate of the gateway's own; each is
// right again when its Secret is.
func TestBrokenSecrets(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	g.certificate("good", "good.example")
	g.certificate("other", "other.example")
	expired, expiredKey := injected.Pair(t, -time.Hour, "expired.example")
	chain, _ := injected.Pair(t, time.Hour, "mismatch.example")
	_, key := injected.Pair(t, time.Hour, "mismatch.example")
	g.secret("expired", expired, expiredKey)
	g.secret("malformed", []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), key)
	g.secret("mismatch", chain, key)
	names := []string{"expired", "malformed", "mismatch", "missing"}
	for name, change := range map[string]func(*x509.Certificate){
		"usage":  func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement },
		"staple": func(c *x509.Certificate) { c.ExtraExtensions = []pkix.Extension{mustStaple} },
		"nobody": func(c *x509.Certificate) { c.Subject, c.DNSNames = pkix.Name{}, nil },
	} {
		chain, key := injected.ChangedPair(t, newKey(t), time.Hour, change, name+".example")
		g.secret(name, chain, key)
		names = append(names, name)
	}
	paths := []string{"good.example|P|/|web"}
	tlsLines := []string{"good|good.example"}
	for _, name := range names {
		paths, tlsLines = append(paths, name+".example|P|/|web"), append(tlsLines, name+"|"+name+".example")
	}
	shown := func(host string) string { return g.get("https://" + host + "/").shown }
	for range 2 { // the second time while the chains of the first drain
		g.remove("web")
		g.apply(secured(rules("web", 1, paths...), tlsLines...))
		for _, name := range names {
			if got := shown(name + ".example"); got != "fallback.invalid" {
				t.Errorf("%s shows the certificate of %q", name, got)
			}
		}
		if got := shown("good.example"); got != "good.example" {
			t.Errorf("the good host shows the certificate of %q", got)
		}
	}
	for _, want := range []string{
		`spec.tls="expired": the certificate expired at 20`, `spec.tls="malformed": tls.crt and tls.key are no pair: x509: `,
		`spec.tls="mismatch": tls.crt and tls.key are no pair: tls: private key does not match public key; in force: a certificate of the gateway's own`,
		`spec.tls="missing": there is no Secret default/missing of type kubernetes.io/tls`,
		`spec.tls="usage": the certificate's key usage lacks digitalSignature`, `spec.tls="staple": the certificate must be stapled`,
		`spec.tls="nobody": the certificate names nobody`,
	} {
		if !strings.Contains(g.told("web"), want) {
			t.Errorf("not told %s:\n%s", want, g.told("web"))
		}
	}
	for _, name := range names {
		g.certificate(name, name+".example")
		if got := shown(name + ".example"); got != name+".example" {
			t.Errorf("%s shows the certificate of %q when it is right", name, got)
		}
	}
	if told := g.told("web"); told != "" {
		t.Errorf("still told %s", told)
	}
	g.model.Delete(mesh.Object{Kind: ingress.Secret, Namespace: "default", Name: "good"})
	g.now = g.now.Add(2 * time.Hour) // all others expire
	g.publish()
	if got := shown("good.example") + " " + shown("missing.example"); got != "fallback.invalid fallback.invalid" {
		t.Errorf("deleted and expired show %s", got)
	}
}

// TestRefusedSecret: what Envoy refuses of a Secret although it was checked is replaced, too, and the hosts of others are
// served on, new ones among them, when its Ingress comes again while its chain drains.
func TestRefusedSecret(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.complaint = "Failed to load private key"
	g.service("web")
	key, err := rsa.GenerateMultiPrimeKey(rand.Reader, 3, 2048) //nolint:staticcheck // Envoy knows no more than two primes
	if err != nil {
		t.Fatal(err)
	}
	chain, pemKey := injected.SignedPair(t, key, time.Hour, "odd.example")
	odd := secured(rules("odd", 1, "odd.example|P|/|web"), "odd|odd.example")
	g.secret("odd", chain, pemKey)
	g.set([]byte(odd))
	g.publishRefused("odd")
	g.publish()
	check := func(host, want string) {
		t.Helper()
		if a := g.get("https://" + host + "/"); a.outcome() != "web" || a.shown != want {
			t.Errorf("%s answers %s with the certificate of %q, want %q", host, a.outcome(), a.shown, want)
		}
	}
	check("odd.example", "fallback.invalid")
	if told := g.told("odd"); !strings.Contains(told, `spec.tls="odd": the gateway's Envoy refuses the certificate`) {
		t.Errorf("told %q", told)
	}
	g.remove("odd")
	g.certificate("new", "new.example")
	g.apply(odd + "\n---\n" + secured(rules("new", 2, "new.example|P|/|web"), "new|new.example"))
	check("odd.example", "fallback.invalid")
	check("new.example", "new.example")
	g.certificate("odd", "odd.example")
	check("odd.example", "odd.example")
}

// publishRefused waits until Envoy has refused the Secret, and tells the model of it, as the control plane does.
func (g *gateway) publishRefused(name string) {
	g.t.Helper()
	done := make(chan serve.Applied, 1)
	g.server.PublishGateway(g.flush(), func(a serve.Applied) { done <- a })
	select {
	case a := <-done:
		if a.Rejected != 1 {
			g.t.Errorf("applied: %+v", a)
		}
	case <-time.After(patience):
		g.t.Fatal("an update is not answered")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, r := range g.rejections {
		if r.Owner != objectOf(ingress.Secret, name) || !g.resources.Holds(r.Key, r.Version) {
			g.t.Errorf("refused %v of %s: %s", r.Key, r.Owner, r.Message)
		}
		g.model.RefuseSecret(r.Owner)
	}
	g.rejections = nil
}
