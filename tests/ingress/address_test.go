package ingress

import (
	"bufio"
	"encoding/json"
	"io"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
)

// TestProxyProtocol: a load balancer says who the client is, and nobody gets by without.
func TestProxyProtocol(t *testing.T) {
	t.Parallel()
	g := start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.ProxyProtocol = true })
	g.service("web")
	g.apply(rules("web", 1, "web|P|/|web"))
	const request = "GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-For: 192.0.2.1\r\nConnection: close\r\n\r\n"
	for name, begin := range map[string]string{
		"version 1": "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n",
		"version 2": "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xcb\x00\x71\x09\x0a\x00\x00\x01\x12\x67\x00\x50",
	} {
		status, a := g.raw(begin + request)
		if got := a.Headers.Get("X-Forwarded-For"); status != http.StatusOK || !strings.HasSuffix(got, "203.0.113.9") {
			t.Errorf("%s: status %d, X-Forwarded-For %q", name, status, got)
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

// TestJSONLog: each request is one object with the fields that are documented, numbers as numbers.
func TestJSONLog(t *testing.T) {
	t.Parallel()
	g := start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.LogFormat = envoy.LogJSON })
	g.service("web")
	g.apply(rules("web", 1, "web|P|/|web"))
	g.get(`http://web/a"b`, "User-Agent", "it\"s me")
	line := regexp.MustCompile(`(?m)^{.*}$`)
	var text string
	g.eventually("a line", func() error {
		text = line.FindString(g.log.String())
		if text == "" {
			return io.ErrUnexpectedEOF
		}
		return nil
	})
	var entry struct {
		Host, Path, Cluster, Client string
		UserAgent                   string `json:"user_agent"`
		Status                      int
		Duration                    *int `json:"duration_ms"`
	}
	var fields map[string]any
	for _, to := range []any{&entry, &fields} {
		if err := json.Unmarshal([]byte(text), to); err != nil {
			t.Fatalf("%v in %s", err, text)
		}
	}
	if entry.Host != "web" || !strings.HasPrefix(entry.Path, "/a") || entry.Status != http.StatusOK || entry.Duration == nil ||
		entry.Client != gatewayAddress || entry.UserAgent != `it"s me` || !strings.Contains(entry.Cluster, "|default|web") {
		t.Errorf("%+v of %s", entry, text)
	}
	want := []string{
		"bytes_received", "bytes_sent", "client", "cluster", "duration_ms", "endpoint", "flags", "host", "method", "path", "protocol",
		"status", "time", "tls", "user_agent",
	}
	var got []string
	for name := range fields {
		got = append(got, name)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("fields %q, want %q", got, want)
	}
}
