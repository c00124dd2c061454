package ingress

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// secured adds to an Ingress the Secrets of hosts, each "secret|host,host".
func secured(ingress string, lines ...string) string {
	ingress += "  tls:\n"
	for _, line := range lines {
		secret, hosts, _ := strings.Cut(line, "|")
		for i, host := range strings.Split(hosts, ",") {
			if i == 0 {
				ingress += fmt.Sprintf("  - secretName: %s\n    hosts:\n", secret)
			}
			ingress += fmt.Sprintf("    - '%s'\n", host)
		}
	}
	return ingress
}

// TestCertificates: several hosts and Secrets at one address, each with its own, wildcards too.
func TestCertificates(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	g.certificate("a", "a.example")
	g.certificate("b", "b.example", "c.example")
	g.certificate("wild", "*.wild.example")
	g.certificate("deep", "*.deep.wild.example")
	g.certificate("exact", "exact.wild.example")
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	chain, key := injected.SignedPair(t, rsaKey, time.Hour, "rsa.example")
	g.secret("rsa", chain, key)
	chain, key = injected.SignedPair(t, p384, time.Hour, "p384.example")
	g.secret("p384", chain, key)
	g.apply(secured(rules("web", 1, "a.example|P|/|web", "b.example|P|/|web", "plain.example|P|/|web", "x.wild.example|P|/|web", "*.wild.example|P|/any|web",
		"*.deep.wild.example|P|/|web", "exact.wild.example|P|/|web",
		"rsa.example|P|/|web", "p384.example|P|/|web", "-|P|/all|web"),
		"a|a.example", "b|b.example,c.example", "wild|*.wild.example", "deep|*.deep.wild.example", "exact|exact.wild.example", "rsa|rsa.example", "p384|p384.example"))
	for _, test := range []struct{ url, want, shown string }{
		{"https://a.example/", "web", "a.example"},
		{"https://A.example/", "web", "a.example"},
		{"https://b.example/", "web", "b.example c.example"},
		{"https://c.example/all", "web", "b.example c.example"},
		{"https://c.example/", "404", "b.example c.example"},
		{"https://x.wild.example/", "web", "*.wild.example"},
		{"https://y.wild.example/any", "web", "*.wild.example"},
		{"https://Y.Wild.Example/any", "web", "*.wild.example"},
		{"https://exact.wild.example/", "web", "exact.wild.example"},
		{"https://y.deep.wild.example/", "web", "*.deep.wild.example"},
		{"https://deep.wild.example/any", "web", "*.wild.example"},
		{"https://y.wild.example/", "404", "*.wild.example"},
		{"https://z.y.wild.example/any", "421", "*.wild.example"},
		{"https://rsa.example/", "web", "rsa.example"},
		{"https://p384.example/", "web", "p384.example"},
		{"http://a.example/x?y=z", "308 https://a.example/x?y=z", ""},
		{"http://c.example/all", "308 https://c.example/all", ""},
		{"http://y.wild.example/any", "308 https://y.wild.example:443/any", ""},
		{"http://y.wild.example:8080/any", "308 https://y.wild.example:443/any", ""},
		{"http://x.wild.example:8080/", "308 https://x.wild.example/", ""},
		{"http://plain.example/", "web", ""},
		{"http://else.example/all", "web", ""},
	} {
		a := g.get(test.url)
		if got := a.outcome(); got != test.want || a.shown != test.shown {
			t.Errorf("%s is answered by %s with the certificate of %q, want %s with %q", test.url, got, a.shown, test.want, test.shown)
		}
	}
	for _, host := range []string{"plain.example", "nobody.example", "wild.example", "xwild.example", "a.example.nobody"} {
		if a, err := ask(g.client(nil), "https://"+host+"/"); err == nil {
			t.Errorf("%s gets the certificate of %q", host, a.shown)
		}
	}
}

// TestConnectionOfAnotherHost: over a connection with one certificate there is no other host to be had (RFC 9110, 7.4).
func TestConnectionOfAnotherHost(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	g.certificate("a", "a.example", "a2.example")
	g.certificate("b", "b.example")
	g.apply(secured(rules("web", 1, "a.example|P|/|web", "a2.example|P|/|web", "b.example|P|/|web", "plain.example|P|/|web"), "a|a.example,a2.example", "b|b.example"))
	for _, protocol := range []string{"h2", "http/1.1"} {
		config := &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", NextProtos: []string{protocol}}
		client := g.client(config)
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = protocol == "h2"
		for host, want := range map[string]string{
			"a.example": "web", "a2.example": "web", "a2.example:443": "web", "b.example": "421", "plain.example": "421", "nobody": "421",
		} {
			a, err := ask(client, "https://a.example/", "Host", host)
			if err != nil || a.outcome() != want || (protocol == "h2") != (a.protocol == "HTTP/2.0") {
				t.Errorf("%s over %s (%s): %s, want %s: %v", host, protocol, a.protocol, a.outcome(), want, err)
			}
		}
	}
}

// TestSecretReplaced: a renewal, and one more certificate beside it, drop no connection: not one request fails, and a download
// that has begun goes on.
func TestSecretReplaced(t *testing.T) {
	t.Parallel()
	g := start(t)
	flows := map[string]chan string{"/slow/h2": make(chan string), "/slow/ht": make(chan string)}
	l := g.listen(g.outside, serverAddress+":0")
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for {
			select {
			case text := <-flows[r.URL.Path]:
				_, _ = io.WriteString(w, text)
				_ = http.NewResponseController(w).Flush()
			case <-r.Context().Done():
				return
			}
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	g.serviceAt("slow", mustPort(t, l))
	g.service("web")
	g.certificate("a", "a.example")
	g.apply(secured(rules("web", 1, "a.example|P|/|web", "a.example|P|/slow|slow"), "a|a.example"))
	for _, protocol := range []string{"h2", "http/1.1"} {
		path := "/slow/" + protocol[:2]
		flow := flows[path]
		client := g.client(&tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
		client.Transport.(*http.Transport).ForceAttemptHTTP2 = protocol == "h2"
		response := make(chan *http.Response, 1)
		go func() {
			r, err := client.Get("https://a.example" + path)
			if err != nil {
				t.Error(err)
			}
			response <- r
		}()
		flow <- "before"
		r := <-response
		if r == nil {
			t.FailNow()
		}
		buffer := make([]byte, 6)
		if _, err := io.ReadFull(r.Body, buffer); err != nil {
			t.Fatal(err)
		}
		g.certificate("a", "a.example", "renewed-"+protocol[:2]+".example")
		g.certificate("more", "more.example")
		g.apply(secured(rules("more-"+protocol[:2], 2, protocol[:2]+".more.example|P|/|web"), "more|"+protocol[:2]+".more.example"))
		if got := g.get("https://a.example/").shown; !strings.Contains(got, "renewed-"+protocol[:2]) {
			t.Errorf("a new connection gets the certificate of %q", got)
		}
		flow <- "after!"
		if _, err := io.ReadFull(r.Body, buffer); err != nil || string(buffer) != "after!" {
			t.Errorf("%s: the download broke: %q, %v", protocol, buffer, err)
		}
		r.Body.Close()
		client.CloseIdleConnections()
	}
}

// TestHostsOfACertificate: one host more, or one less, drains no connection to the others of the same certificate.
func TestHostsOfACertificate(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	g.certificate("a", "a.example", "b.example")
	g.apply(secured(rules("web", 1, "a.example|P|/|web"), "a|a.example"))
	g.apply(secured(rules("b", 2, "b.example|P|/|web"), "a|b.example"))
	if got := g.get("https://b.example/").outcome(); got != "web" {
		t.Errorf("the new host answers %s", got)
	}
	if got := g.statistic("listener_manager.total_filter_chains_draining"); got != "0" {
		t.Errorf("a new host drains %s filter chains", got)
	}
	g.remove("b")
	if a, err := ask(g.client(nil), "https://b.example/"); err == nil {
		t.Errorf("the host that is gone answers %s", a.outcome())
	}
	if got := g.statistic("listener_manager.total_filter_chains_draining"); got != "0" {
		t.Errorf("a host that is gone drains %s filter chains", got)
	}
}

// TestRedirects: never for a challenge of ACME, not where an annotation says so, and with method and body kept.
func TestRedirects(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	g.service("solver")
	g.certificate("a", "a.example")
	solver := rules("solver", 3, "a.example|E|/.well-known/acme-challenge/token|solver")
	off := strings.Replace(secured(rules("off", 2, "a.example|P|/off|web"), "a|a.example"), "metadata:\n", "metadata:\n  annotations: {traffic.ingress/ssl-redirect: 'false'}\n", 1)
	g.apply(secured(rules("web", 1, "a.example|P|/|web"), "a|a.example") + "\n---\n" + solver + "\n---\n" + off)
	for path, want := range map[string]string{
		"/":                                        "308 https://a.example/",
		"/.well-known/acme-challenge/token":        "solver",
		"/.well-known/acme-challenge/another":      "web",
		"/.well-known/acme-challengers":            "308 https://a.example/.well-known/acme-challengers",
		"/x/../.well-known/acme-challenge/../../y": "308 https://a.example/y",
		"/off/x": "web",
	} {
		if status, a := g.raw("GET " + path + " HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"); true {
			a.Status = status
			if got := a.outcome(); got != want {
				t.Errorf("%s: %s, want %s", path, got, want)
			}
		}
	}
}

// TestDefaultCertificate: who asks for no host, or an unknown one, gets the configured certificate, and no host that has
// another.
func TestDefaultCertificate(t *testing.T) {
	t.Parallel()
	g := start(t, func(c *ingress.Config, e *envoy.GatewayConfig) {
		c.DefaultCertificate = mesh.Object{Kind: ingress.Secret, Namespace: "default", Name: "default"}
		e.DefaultCertificate = c.DefaultCertificate
	})
	g.service("web")
	g.certificate("a", "a.example")
	g.certificate("default", "default.example")
	g.apply(secured(rules("web", 1, "a.example|P|/|web", "plain.example|P|/|web"), "a|a.example"))
	ask := func(name, host string) string {
		client := g.client(&tls.Config{InsecureSkipVerify: true, ServerName: name})
		a, err := ask(client, "https://"+host+"/")
		if err != nil {
			return err.Error()
		}
		return a.outcome() + " " + a.shown
	}
	for _, test := range []struct{ name, host, want string }{
		{"", "10.0.0.1", "404 default.example"},
		{"plain.example", "plain.example", "web default.example"},
		{"unknown.example", "unknown.example", "404 default.example"},
		{"unknown.example", "a.example", "421 default.example"},
		{"a.example", "a.example", "web a.example"},
		{"a.example", "plain.example", "421 a.example"},
	} {
		if got := ask(test.name, test.host); got != test.want {
			t.Errorf("%s over a connection to %q: %s, want %s", test.host, test.name, got, test.want)
		}
	}
}

// TestTLSVersions: nothing older than 1.2, and no cipher without forward secrecy.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	g.certificate("a", "a.example")
	g.apply(secured(rules("web", 1, "a.example|P|/|web"), "a|a.example"))
	for name, test := range map[string]struct {
		config *tls.Config
		works  bool
	}{
		"1.1":      {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		"1.2":      {&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		"1.3":      {&tls.Config{MinVersion: tls.VersionTLS13}, true},
		"CBC":      {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		"ChaCha20": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}}, true},
	} {
		test.config.InsecureSkipVerify = true
		if _, err := ask(g.client(test.config), "https://a.example/"); (err == nil) != test.works {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCiphers: those that may be set are known to Envoy, which refuses a listener for one that is not, and are all that there
// are then.
func TestCiphers(t *testing.T) {
	t.Parallel()
	g := start(t, func(_ *ingress.Config, e *envoy.GatewayConfig) { e.Ciphers = envoy.Ciphers })
	g.service("web")
	g.certificate("a", "a.example")
	g.apply(secured(rules("web", 1, "a.example|P|/|web"), "a|a.example"))
	if got := g.get("https://a.example/").outcome(); got != "web" {
		t.Errorf("with all ciphers: %s", got)
	}
}
