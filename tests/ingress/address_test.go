package ingress

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
)

// forged is what a client says in the name of proxies, but for X-Forwarded-For and -Proto.
var forged = []string{
	"X-Forwarded-Host", "forged", "X-Forwarded-Port", "1", "X-Forwarded-Prefix", "/forged", "X-Forwarded-Scheme", "forged",
	"X-Forwarded-Server", "forged", "X-Forwarded-Ssl", "on", "X-Forwarded-Protocol", "https", "X-Forwarded-By", "forged",
	"X-Forwarded-Client-Cert", "Hash=forged", "X-Real-Ip", "192.0.2.66", "Forwarded", "for=192.0.2.66;host=forged",
	"X-Envoy-External-Address", "192.0.2.66", "X-Envoy-Original-Path", "/forged", "X-Envoy-Upstream-Rq-Timeout-Ms", "1",
	"X-Envoy-Force-Trace", "true", "X-Envoy-Attempt-Count", "9", "X-Envoy-Internal", "true",
}

// claims are those headers of a request that say who asked, and for what.
func claims(h http.Header) string {
	var list []string
	for name, values := range h {
		if strings.HasPrefix(name, "X-Forwarded") || strings.HasPrefix(name, "X-Envoy") || name == "Forwarded" || name == "X-Real-Ip" {
			list = append(list, name+": "+strings.Join(values, " and "))
		}
	}
	slices.Sort(list)
	return strings.Join(list, "; ")
}

// said is what a server is told, whatever the client said.
func said(list, client, host, scheme string) string {
	return fmt.Sprintf("X-Envoy-External-Address: %s; X-Forwarded-For: %s; X-Forwarded-Host: %s; X-Forwarded-Proto: %s; X-Real-Ip: %[1]s", client, list, host, scheme)
}

// TestForwardedHeaders: what a server is told of a client is what the gateway saw, or proxies that are trusted; nobody can
// tell it otherwise. A client's own entries stay in front of those of trusted proxies, since these kept them.
func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	type row struct{ list, proto, wantList, wantClient, wantProto string }
	for hops, rows := range map[uint32][]row{
		0: {
			{"", "", gatewayAddress, gatewayAddress, "SCHEME"},
			{"192.0.2.66", "gopher", gatewayAddress, gatewayAddress, "SCHEME"},
			{"192.0.2.66, 192.0.2.67", "https", gatewayAddress, gatewayAddress, "SCHEME"},
		},
		1: {
			{"", "", gatewayAddress, gatewayAddress, "SCHEME"},
			{"203.0.113.9", "https", "203.0.113.9," + gatewayAddress, "203.0.113.9", "https"},
			{"192.0.2.66, 203.0.113.9", "http", "192.0.2.66, 203.0.113.9," + gatewayAddress, "203.0.113.9", "http"},
			{"203.0.113.9, forged", "", "203.0.113.9, forged," + gatewayAddress, gatewayAddress, "SCHEME"},
		},
		2: {
			{"203.0.113.9", "", "203.0.113.9," + gatewayAddress, gatewayAddress, "SCHEME"},
			{"203.0.113.9, 198.51.100.1", "https", "203.0.113.9, 198.51.100.1," + gatewayAddress, "203.0.113.9", "https"},
			{"192.0.2.66, 2001:db8::9, 198.51.100.1", "", "192.0.2.66, 2001:db8::9, 198.51.100.1," + gatewayAddress, "2001:db8::9", "SCHEME"},
		},
	} {
		t.Run(fmt.Sprint(hops), func(t *testing.T) {
			t.Parallel()
			g := start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.TrustedHops = hops })
			g.service("web")
			g.certificate("a", "a.example")
			g.apply(secured(rules("web", 1, "web|P|/|web", "a.example|P|/|web"), "a|a.example"))
			for url, scheme := range map[string]string{"http://web:8080/": "http", "https://a.example/": "https"} {
				for _, r := range rows {
					headers := slices.Clone(forged)
					if r.list != "" {
						headers = append(headers, "X-Forwarded-For", r.list)
					}
					if r.proto != "" {
						headers = append(headers, "X-Forwarded-Proto", r.proto)
					}
					a := g.get(url, headers...)
					want := said(r.wantList, r.wantClient, a.Host, strings.ReplaceAll(r.wantProto, "SCHEME", scheme))
					if got := claims(a.Headers); got != want {
						t.Errorf("%s with %d trusted hops and %q, %q: the server is told\n%s, want\n%s", url, hops, r.list, r.proto, got, want)
					}
				}
			}
		})
	}
}

// TestHeadersOfAWebSocket: a client cannot have a server ignore what it is told, by naming it as a header of the connection alone.
func TestHeadersOfAWebSocket(t *testing.T) {
	t.Parallel()
	g := start(t)
	connection := make(chan string, 1)
	g.serveWith("web", func(_ http.ResponseWriter, r *http.Request) { connection <- strings.Join(r.Header["Connection"], ", ") })
	g.apply(rules("web", 1, "web|P|/|web"))
	c := g.connect(t, "http/1.1")
	defer c.Close()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: web\r\nConnection: X-Real-Ip, Upgrade, X-Forwarded-For\r\nUpgrade: websocket\r\n\r\n")
	select {
	case got := <-connection:
		if !strings.EqualFold(got, "upgrade") {
			t.Errorf("of the connection alone are %q", got)
		}
	case <-time.After(patience):
		t.Fatal("the server is asked nothing")
	}
}

// TestProxyProtocol: a load balancer says who the client is, and nobody gets by without.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	g := start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.ProxyProtocol = true })
	g.service("web")
	g.apply(rules("web", 1, "web|P|/|web"))
	request := "GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n"
	for i := 0; i < len(forged); i += 2 {
		request += forged[i] + ": " + forged[i+1] + "\r\n"
	}
	request += "\r\n"
	for name, begin := range map[string]string{
		"version 1": "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n",
		"version 2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\x12\x67\x00\x50",
	} {
		status, a := g.raw(begin + request)
		if got, want := claims(a.Headers), said("203.0.113.9", "203.0.113.9", "web", "http"); status != http.StatusOK || got != want {
			t.Errorf("%s: status %d, the server is told\n%s, want\n%s", name, status, got, want)
		}
	}
	c, err := g.dial(t.Context(), gatewayAddress+":8080")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	if response, err := http.ReadResponse(bufio.NewReader(c), nil); err == nil {
		t.Errorf("a connection without the protocol gets %s", response.Status)
	}
}

// TestTrustedHops: what a proxy of ours saw is the client; what the client says of itself is not.
func TestTrustedHops(t *testing.T) {
	t.Parallel()
	g := start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.TrustedHops = 1 })
	g.service("web")
	g.apply(annotated(rules("web", 1, "web|P|/|web"), "traffic.ingress/allow-source-ranges", "203.0.113.0/24"))
	for forwarded, want := range map[string]string{
		"203.0.113.9": "web", "192.0.2.1, 203.0.113.9": "web", "203.0.113.9, 192.0.2.1": "403", "192.0.2.1": "403",
	} {
		if got := g.get("http://web/", "X-Forwarded-For", forwarded).outcome(); got != want {
			t.Errorf("X-Forwarded-For: %s gets %s, want %s", forwarded, got, want)
		}
	}
}

// TestForgedTraces: a stranger does not decide what is traced, a proxy that is trusted does, and without a collector a trace of
// the client's own goes through.
func TestForgedTraces(t *testing.T) {
	t.Parallel()
	forged := []string{
		"X-B3-Traceid", "0123456789abcdef0123456789abcdef", "X-B3-Spanid", "0123456789abcdef", "X-B3-Sampled", "1",
		"B3", "0123456789abcdef0123456789abcdef-0123456789abcdef-1",
		"Traceparent", "00-0123456789abcdef0123456789abcdef-0123456789abcdef-01", "Tracestate", "forged=1",
	}
	for name, test := range map[string]struct {
		collector, followed bool
		hops                uint32
	}{
		"strangers":           {collector: true},
		"proxy that is ours":  {collector: true, followed: true, hops: 1},
		"without a collector": {followed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			config := envoy.Config{AccessLog: envoy.LogAll}
			if test.collector {
				config.Collector = envoy.Collector{Kind: envoy.Zipkin, Address: envoy.CollectorAddress{Host: serverAddress, Port: 9411}}
			}
			translator, err := envoy.NewTranslator(config)
			if err != nil {
				t.Fatal(err)
			}
			if g.resources, err = envoy.NewGateway(translator, envoy.GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, IPv6: true, TrustedHops: test.hops}); err != nil {
				t.Fatal(err)
			}
			g.run()
			g.service("untraced")
			g.service("rare", "traffic.tracing.enabled", "true", "traffic.tracing.sampling", "0.01")
			g.apply(rules("web", 1, "untraced|P|/|untraced", "rare|P|/|rare"))
			for _, host := range []string{"untraced", "rare"} {
				h := g.get("http://"+host+"/", forged...).Headers
				text := fmt.Sprint(h["X-B3-Traceid"], h["X-B3-Sampled"], h["B3"], h["Traceparent"], h["Tracestate"])
				if got := strings.Contains(text, "0123456789abcdef"); got != test.followed {
					t.Errorf("%s: the server is told %s", host, text)
				}
			}
		})
	}
}
