package ingress

import (
	"fmt"
	"strings"
	"testing"
)

// rules is an Ingress of paths, each "host|type|path|service"; host - is none, type D the default backend.
func rules(name string, created int, lines ...string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: %s\n  creationTimestamp: 2026-01-01T00:00:%02dZ\nspec:\n", name, created)
	backend := func(service string) string { return fmt.Sprintf("{service: {name: %s, port: {number: 80}}}", service) }
	types := map[string]string{"E": "Exact", "P": "Prefix", "I": "ImplementationSpecific"}
	for _, line := range lines {
		if f := strings.Split(line, "|"); f[1] == "D" {
			fmt.Fprintf(&b, "  defaultBackend: %s\n", backend(f[3]))
		}
	}
	b.WriteString("  rules:\n")
	for _, line := range lines {
		f := strings.Split(line, "|")
		host := fmt.Sprintf("host: '%s', ", f[0])
		if f[0] == "-" {
			host = ""
		}
		if f[1] != "D" {
			fmt.Fprintf(&b, "  - {%shttp: {paths: [{path: '%s', pathType: %s, backend: %s}]}}\n", host, f[2], types[f[1]], backend(f[3]))
		}
	}
	return strings.TrimSuffix(b.String(), "  rules:\n")
}

// TestPaths has the 17 scenarios of the public conformance suite's path rules, and what it leaves out.
func TestPaths(t *testing.T) {
	t.Parallel()
	g := start(t)
	for _, name := range []string{
		"exact", "prefix", "slash", "bbb", "ccc", "root", "short", "both-exact", "both-prefix", "text", "either-prefix", "either-text", "rest",
	} {
		g.service(name)
	}
	g.apply(rules("exact", 1, "exact|E|/foo|exact", "exact-slash|E|/foo/|exact") +
		"\n---\n" + rules("prefix", 1, "prefix|P|/foo|prefix", "prefix-slash|P|/foo/|slash", "elements|P|/aaa/bbb|bbb", "elements-slash|P|/aaa/bbb/|bbb") +
		"\n---\n" + rules("several", 1, "several|P|/|root", "several|P|/aaa|short", "several|P|/aaa/bbb|bbb", "two|P|/aaa|short", "two|P|/|root") +
		"\n---\n" + rules("mixed", 1, "mixed|E|/foo|both-exact", "mixed|P|/foo|both-prefix") +
		"\n---\n" + rules("text", 1, "text|I|/foo|text", "either|P|/foo|either-prefix", "either|I|/foo|either-text", "text-empty|I||text") +
		"\n---\n" + rules("default", 1, "default|E|/foo|exact", "default|D||rest") +
		"\n---\n" + rules("encoded", 1, "encoded|E|/a b|exact", "encoded|E|/%7euser|prefix", "encoded|P|/ü|text",
		"encoded|E|/caf%c3%a9|both-exact", "encoded|I|/%7ba}|either-text", `encoded|E|/"<>^`+"`"+`%7c}|bbb`, "encoded|E|/a:b|ccc", "encoded|E|/%2a|root"))
	for _, test := range []struct{ url, want string }{
		{"exact/foo", "exact"},
		{"exact/foo/", "404"},
		{"exact/FOO", "404"},
		{"exact/bar", "404"},
		{"exact/foo?query", "exact"},
		{"exact-slash/foo", "404"},
		{"exact-slash/foo/", "exact"},
		{"prefix/foo", "prefix"},
		{"prefix/foo/", "prefix"},
		{"prefix/foo/bar?query", "prefix"},
		{"prefix/foobar", "404"},
		{"prefix/FOO", "404"},
		{"prefix-slash/foo", "slash"},
		{"prefix-slash/foo/", "slash"},
		{"elements/aaa/bb", "404"},
		{"elements/aaa/bbb", "bbb"},
		{"elements/aaa/bbb/", "bbb"},
		{"elements/aaa/bbb/ccc", "bbb"},
		{"elements/aaa/bbbxyz", "404"},
		{"elements-slash/aaa/bbb", "bbb"},
		{"several/aaa/bbb", "bbb"},
		{"several/aaa/ccc", "short"},
		{"several/ccc", "root"},
		{"several/aaabbb", "root"},
		{"two/aaa/ccc", "short"},
		{"mixed/foo", "both-exact"},
		{"mixed/foo/", "both-prefix"},
		{"text/foobar", "text"},
		{"text/fo", "404"},
		{"text-empty/anything", "text"},
		{"either/foo/bar", "either-prefix"},
		{"either/foobar", "either-text"},
		{"default/foo", "exact"},
		{"default/else", "rest"},
		{"encoded/a%20b", "exact"},
		{"encoded/~user", "prefix"},
		{"encoded/%7Euser", "prefix"},
		{"encoded/%C3%BC/x", "text"},
		{"encoded/%c3%bc", "text"},
		{"encoded/%c3%Bc/x?query", "text"},
		{"encoded/%c3%bcx", "404"},
		{"encoded/caf%c3%a9", "both-exact"},
		{"encoded/caf%C3%A9", "both-exact"},
		{"encoded/caf%C3%A9/", "404"},
		{"encoded/%7Ba%7dc/d", "either-text"},
		{"encoded/%22%3c%3E%5e%60%7c%7D", "bbb"},
		{"encoded/a:b", "ccc"},
		{"encoded/a%3Ab", "404"},
		{"encoded/%2A", "root"},
		{"encoded/%2a", "root"},
		{"encoded/*", "404"},
		{"nobody/foo", "404"},
	} {
		if got := g.get("http://" + test.url).outcome(); got != test.want {
			t.Errorf("%s is answered by %s, want %s", test.url, got, test.want)
		}
	}
}

// TestNormalizedPaths: a guarded path cannot be reached by another spelling, and a server sees what was matched.
func TestNormalizedPaths(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("public")
	g.service("admin")
	g.apply(rules("web", 1, "web|P|/|public", "web|P|/admin|admin", "web|E|/secret|admin"))
	for _, test := range []struct{ path, want, sent string }{
		{"/public", "public", "/public"},
		{"/admin", "admin", "/admin"},
		{"//admin", "admin", "/admin"},
		{"/public/../admin", "admin", "/admin"},
		{"/./admin/x", "admin", "/admin/x"},
		{"/public//..//admin", "public", "/public/admin"},
		{"/%61dmin", "admin", "/admin"},
		{"/%2e/admin", "admin", "/admin"},
		{"/public/%2e%2e/admin", "admin", "/admin"},
		{"/public/%2E./admin", "admin", "/admin"},
		{"/%73ecret", "admin", "/secret"},
		{"/secret/../secret", "admin", "/secret"},
		{`/public\..\admin`, "admin", "/admin"},
		{"/public/..%2fadmin", "307 /admin", ""},
		{"/%2fadmin", "307 /admin", ""},
		{"/public%5c..%5cadmin", "307 /admin", ""},
		{"/%252fadmin", "public", "/%252fadmin"},
		{"/a%20b", "public", "/a%20b"},
		{"/%ff", "public", "/%ff"},
		{"/%", "400", ""},
	} {
		status, a := g.raw("GET " + test.path + " HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n")
		a.Status = status
		if got := a.outcome(); got != test.want || a.Path != test.sent {
			t.Errorf("%s is answered by %s with %q, want %s with %q", test.path, got, a.Path, test.want, test.sent)
		}
	}
}

// TestHosts: exact before wildcard before none, and one label for a star.
func TestHosts(t *testing.T) {
	t.Parallel()
	g := start(t)
	for _, name := range []string{"a", "wild", "deep", "all", "rest"} {
		g.service(name)
	}
	g.apply(rules("hosts", 1, "a.example|P|/|a", "*.example|P|/|wild", "*.b.example|P|/only|deep"))
	want := func(tests map[string]string) {
		t.Helper()
		for at, want := range tests {
			host, path, _ := strings.Cut(at, "/")
			if got := g.get("http://gateway/"+path, "Host", host).outcome(); got != want {
				t.Errorf("%s is answered by %s, want %s", at, got, want)
			}
		}
	}
	want(map[string]string{
		"a.example": "a", "a.example:8080": "a", "A.Example": "a", "a.example.": "a", "b.example": "wild", "B.example:80": "wild",
		"c.b.example/only": "deep", "c.b.example/": "404", "d.c.b.example/only": "404", "x.a.example": "404", "example": "404", "other": "404",
		"[::1]": "404", "10.0.0.1": "404",
	})
	g.apply(rules("all", 2, "-|P|/all|all", "-|D||rest"))
	want(map[string]string{
		"other/all": "all", "other/": "rest", "x.a.example/all": "all", "x.a.example/": "rest", "d.c.b.example/only": "rest",
		"c.b.example/all": "rest", "a.example/all": "a", "example": "rest", "[::1]": "rest",
	})
	g.remove("all", "hosts")
	want(map[string]string{"a.example": "404", "other/all": "404"})
}

// TestClaims: the older Ingress has the path, the younger is told and takes over; what is missing answers 503 for itself.
func TestClaims(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("old")
	g.service("new")
	g.apply(rules("younger", 2, "web|P|/|new", "web|P|/new|new") + "\n---\n" + rules("older", 1, "web|P|/|old", "web|E|/gone|gone"))
	want := func(url, want string) {
		t.Helper()
		if got := g.get("http://web" + url).outcome(); got != want {
			t.Errorf("%s is answered by %s, want %s", url, got, want)
		}
	}
	want("/", "old")
	want("/new", "new")
	want("/gone", "503")
	if told := g.told("younger"); told != `field spec.rules="web/": the older Ingress default/older has the path; in force: the backend of Ingress default/older` {
		t.Errorf("the younger is told %s", told)
	}
	if told := g.told("older"); told != `field spec.rules="web/gone": there is no Service default/gone; in force: the answer is 503` {
		t.Errorf("the older is told %s", told)
	}
	g.service("gone")
	g.publish()
	want("/gone", "gone")
	g.remove("older")
	want("/", "new")
	if told := g.told("younger"); told != "" {
		t.Errorf("the younger is still told %s", told)
	}
}

// TestLongRules: a path with as many escapes as a rule may have, and a wildcard of the longest host, are served, and so are the hosts
// of others: Envoy would refuse the routes of all for one regular expression that is too large.
func TestLongRules(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	path := "/" + strings.Repeat("ж", 7998/6)
	host := strings.Repeat("x", 63) + "." + strings.Repeat("y", 63) + "." + strings.Repeat("z", 63) + "." + strings.Repeat("w", 55)
	g.apply(rules("long", 1, "a.example|P|"+path+"|web", "*."+host+"|P|/|web") + "\n---\n" + rules("other", 2, "b.example|P|/|web"))
	for _, url := range []string{"http://a.example" + path + "/x", "http://a." + host + "/", "http://b.example/"} {
		if got := g.get(url).outcome(); got != "web" {
			t.Errorf("%.100s: %s", url, got)
		}
	}
}
