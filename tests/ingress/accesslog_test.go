package ingress

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
)

// logged makes a gateway answer requests of each kind, with what could end a line or a string within it, and returns the lines of
// its log from the first on.
func logged(t *testing.T, format envoy.LogFormat) []string {
	t.Helper()
	g := start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.LogFormat = format })
	g.service("web")
	g.certificate("a", "a.example")
	g.apply(secured(rules("web", 1, "web|P|/|web", "a.example|P|/|web"), "a|a.example"))
	g.get("http://web/one?a=b", "User-Agent", `it"s \n me`)
	if got := g.get("https://a.example/two").protocol; got != "HTTP/2.0" {
		t.Errorf("over TLS it speaks %s", got)
	}
	if got := g.provoke(t, "GET /three?\"\\n%0a HTTP/1.1\r\nHost: web\r\nUser-Agent: \"\xff\x85\\\r\n\r\n"); got != "200 200" {
		t.Errorf("quotes in a request get %s", got)
	}
	// What some take for the end of a line, in UTF-8: HTTP/1.1 does not know it, either.
	for path, want := range map[string]string{`/four?"},{"\u000a`: "200", "/five?\u0085[2026-": "400", "/five?\u2028[2026-": "400", "/five?\x9b": "400"} {
		c := g.client2(t)
		c.did(c.WriteSettings())
		c.open(1, true, append(asked(":path", path), "user-agent", "\x9b31m\u0085")...)
		if got := c.outcome(1); got != want {
			t.Errorf("%q gets %s, want %s", path, got, want)
		}
	}
	const requests = 8 // with the one that follows the third
	var lines []string
	g.eventually("each request is logged", func() error {
		lines = slices.DeleteFunc(strings.Split(g.log.String(), "\n"), func(line string) bool {
			return line == "" || strings.Contains(line, "][warning][")
		})
		if len(lines) < requests {
			return fmt.Errorf("%d lines", len(lines))
		}
		return nil
	})
	if len(lines) != requests {
		t.Errorf("%d requests have %d lines:\n%s", requests, len(lines), strings.Join(lines, "\n"))
	}
	return lines
}

// TestTextLog: each request is one line in the columns that the predecessor had, whatever it speaks; no request forges another.
func TestTextLog(t *testing.T) {
	t.Parallel()
	columns := regexp.MustCompile(`^\[\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z\] GET (/\S*) (HTTP/1\.1|HTTP/2) (200|400) \d+ \d+ - (\S+) (\S+)$`)
	seen := map[string]string{}
	for _, line := range logged(t, envoy.LogText) {
		match := columns.FindStringSubmatch(line)
		if match == nil {
			t.Errorf("line %q", line)
			continue
		}
		path, _, _ := strings.Cut(match[1], "?")
		seen[path] = match[2] + " " + match[3] + " " + regexp.MustCompile(`:\d+$`).ReplaceAllString(match[4], "") + " " + match[5]
	}
	const to = serverAddress + " 80|default|web.outbound"
	for path, want := range map[string]string{
		"/one": "HTTP/1.1 200 " + to, "/two": "HTTP/2 200 " + to, "/three": "HTTP/1.1 200 " + to, "/four": "HTTP/2 200 " + to,
	} {
		if seen[path] != want {
			t.Errorf("%s is logged with %q, want %q", path, seen[path], want)
		}
	}
}

// TestJSONLog: each request is one object with the fields that are documented, numbers as numbers.
func TestJSONLog(t *testing.T) {
	t.Parallel()
	type entry struct {
		Method, Host, Path, Protocol, Cluster, Client, TLS string
		UserAgent                                          string `json:"user_agent"`
		Status                                             int
		Duration                                           *int `json:"duration_ms"`
	}
	seen := map[string]entry{}
	for _, line := range logged(t, envoy.LogJSON) {
		var e entry
		var fields map[string]any
		for _, to := range []any{&e, &fields} {
			if err := json.Unmarshal([]byte(line), to); err != nil {
				t.Fatalf("%v in %q", err, line)
			}
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
		if e.Duration == nil || e.Client != gatewayAddress || e.Method != http.MethodGet {
			t.Errorf("%+v of %s", e, line)
		}
		e.Duration = nil
		seen[e.Path] = e
	}
	const cluster = "80|default|web.outbound"
	for _, want := range []entry{
		{Path: "/one?a=b", Host: "web", Protocol: "HTTP/1.1", UserAgent: `it"s \n me`},
		{Path: "/two", Host: "a.example", Protocol: "HTTP/2", UserAgent: "Go-http-client/2.0", TLS: "TLSv1.3"},
		{Path: `/three?"\n%0a`, Host: "web", Protocol: "HTTP/1.1", UserAgent: "\"\u00ff\u0085\\"},
		{Path: `/four?"},{"\u000a`, Host: "web", Protocol: "HTTP/2", UserAgent: "\u009b31m\u00c2\u0085"},
	} {
		want.Method, want.Client, want.Status, want.Cluster = http.MethodGet, gatewayAddress, http.StatusOK, cluster
		if got := seen[want.Path]; got != want {
			t.Errorf("%s is logged as\n%+v, want\n%+v", want.Path, got, want)
		}
	}
}
