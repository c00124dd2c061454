package ingress

import (
	"fmt"
	"strings"
)

func long(n int) string { return strings.Repeat("a", n) }

// lines is so many fields.
func lines(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "X-%d: 1\r\n", i)
	}
	return b.String()
}

// hosts is about whom a request is for. Where its end is known the connection goes on after a 400: the RFC wants no more,
// although it was expected to end.
func hosts() []hostile {
	with := func(host string) string { return "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n" }
	return []hostile{
		{name: "Host twice", rfc: "9112 3.2", want: "400 200", send: "GET / HTTP/1.1\r\nHost: web\r\nHost: other\r\n\r\n"},
		{name: "Host twice alike", rfc: "9112 3.2", want: "400 200", send: "GET / HTTP/1.1\r\nHost: web\r\nHost: web\r\n\r\n"},
		{name: "Host is missing", rfc: "9112 3.2", want: "400", send: "GET / HTTP/1.1\r\n\r\n"},
		{name: "Host is empty", rfc: "9110 4.2.1", want: "400 200", send: with("")},
		{name: "Host with userinfo", rfc: "9110 7.2", want: "400 200", send: with("other@web")},
		{name: "Host with a space", rfc: "9110 7.2", want: "400", send: with("web other")},
		{name: "Host with a slash", rfc: "9110 7.2", want: "400", send: with("web/admin")},
		{name: "Host with a backslash", rfc: "9110 7.2", want: "400", send: with(`web\admin`)},
		{name: "Host with a fragment", rfc: "9110 7.2", want: "400", send: with("web#other")},
		{name: "Host with a query", rfc: "9110 7.2", want: "400", send: with("web?other")},
		{name: "Host is a list", rfc: "9110 7.2", want: "400", send: with("web, other")},
		{name: "Host with two ports", rfc: "9110 7.2", want: "400 200", send: with("web:80:90")},
		{name: "Host with a port that is none", rfc: "9110 7.2", want: "400 200", send: with("web:evil")},
		{name: "Host with a port", rfc: "9110 7.2", want: "200 200", seen: "public GET /", send: with("web:8080")},
		// Expected: 400. By the grammar a port is any digits, and nobody connects to it.
		{name: "Host with a port beyond 16 bits", rfc: "9110 7.2", want: "200 200", seen: "public GET /", send: with("web:65616")},
		{name: "Host with a percent", rfc: "9110 7.2", want: "404 200", send: with("w%65b")},
		{name: "Host with a NUL", rfc: "9110 7.2", want: "400", send: with("web\x00.other")},
		{
			name: "absolute-form with another Host", rfc: "9112 3.2.2", want: "200 200", seen: "admin GET /admin", never: "other",
			send: "GET http://web/admin HTTP/1.1\r\nHost: other\r\n\r\n",
		},
		// The RFC wants 400. Envoy takes the one name that there is, and gives it to the server.
		{name: "absolute-form without Host", rfc: "9112 3.2", want: "200 200", seen: "public GET /", send: "GET http://web/ HTTP/1.1\r\n\r\n"},
		// Expected: 400. Envoy leaves the userinfo out, so that nobody is led astray by it.
		{name: "absolute-form with userinfo", rfc: "9110 4.2.4", want: "200 200", never: "other", seen: "public GET /", send: "GET http://other@web/ HTTP/1.1\r\nHost: web\r\n\r\n"},
		{name: "absolute-form without a host", rfc: "9110 4.2.1", want: "400", send: "GET http:///admin HTTP/1.1\r\nHost: web\r\n\r\n"},
		{name: "absolute-form of another scheme", rfc: "9110 7.4", want: "400", send: "GET evil://web/ HTTP/1.1\r\nHost: web\r\n\r\n"},
		// Expected: the path "/". Envoy sees none, and no rule is for that.
		{
			name: "absolute-form with a query in place of a path", rfc: "9112 3.2.2", want: "404 200",
			send: "GET http://web?x HTTP/1.1\r\nHost: web\r\n\r\n",
		},
		{
			name: "X-Forwarded-Host is nobody's host", rfc: "9110 7.2", want: "200 200", seen: "public GET /",
			send: "GET / HTTP/1.1\r\nHost: web\r\nX-Forwarded-Host: other\r\n\r\n",
		},
	}
}

// targets is about request targets that are none.
func targets() []hostile {
	get := func(target string) string { return "GET " + target + " HTTP/1.1\r\nHost: web\r\n\r\n" }
	return []hostile{
		{name: "target with a space", rfc: "9112 3.2", want: "400", send: get("/a b")},
		{name: "target with a NUL", rfc: "9112 3.2", want: "400", send: get("/a\x00b")},
		{name: "target with a tab", rfc: "9112 3.2", want: "400", send: get("/a\tb")},
		{name: "target with a CR", rfc: "9112 3.2", want: "400", send: get("/a\rb")},
		{name: "target beyond ASCII", rfc: "9112 3.2", want: "400", send: get("/\xc3\xbc")},
		{name: "target with a fragment", rfc: "9112 3.2.1", want: "400", send: get("/admin#x")},
		{name: "target without a slash", rfc: "9112 3.2.1", want: "400", send: get("admin")},
		{name: "target *", rfc: "9112 3.2.4", want: "400", send: get("*")},
		{name: "target * of OPTIONS", rfc: "9112 3.2.4", want: "404 200", send: "OPTIONS * HTTP/1.1\r\nHost: web\r\n\r\n"},
		{name: "authority-form", rfc: "9112 3.2.3", want: "400", send: get("web:80")},
	}
}

// paths: /admin is one server's, and /secret and /café too, all else another's. Who asks for a path in whatever spelling gets it from the
// server whose rule it is, in the spelling that was matched.
func paths() []hostile {
	var table []hostile
	for _, p := range []struct{ rfc, path, want, seen string }{
		{"3986 5.2.4", "/./admin", "200 200", "admin GET /admin"},
		{"3986 5.2.4", "/x/../admin/y", "200 200", "admin GET /admin/y"},
		{"3986 5.2.4", "/../../admin", "200 200", "admin GET /admin"},
		{"3986 5.2.4", "/admin/../victims", "200 200", "public GET /victims"},
		{"3986 6.2.2.2", "/x/%2e%2e/admin", "200 200", "admin GET /admin"},
		{"3986 6.2.2.2", "/x/.%2E/admin", "200 200", "admin GET /admin"},
		{"3986 6.2.2.2", "/x/%2e%2e/%2e%2e/admin", "200 200", "admin GET /admin"},
		{"3986 6.2.2.2", "/%61dmin", "200 200", "admin GET /admin"},
		{"3986 6.2.2.2", "/s%65cret", "200 200", "admin GET /secret"},
		{"3986 3.3", "//admin", "200 200", "admin GET /admin"},
		// Expected: /admin. An empty element is one, too (5.2.4), and the two steps up end there; several slashes are one after that.
		{"3986 5.2.4", "///x//..//../admin", "200 200", "public GET /x/admin"},
		{"3986 3.3", "//other/admin", "200 200", "public GET /other/admin"}, // no authority
		// An encoded slash is data. Since servers decode it, the client is told to say what it means.
		{"3986 2.2", "/x/..%2fadmin", "307 200", ""},
		{"3986 2.2", "/x%2F..%2F/admin", "307 200", ""},
		{"3986 2.2", "/%2fadmin", "307 200", ""},
		{"3986 2.2", "/admin%2f..%2f..%2fadmin", "307 200", ""},
		{"3986 2.2", "/x%5c..%5cadmin", "307 200", ""},
		{"3986 3.3", `/x\..\admin`, "200 200", "admin GET /admin"},
		// What is decoded once is not decoded again.
		{"3986 2.4", "/%2561dmin", "200 200", "public GET /%2561dmin"},
		{"3986 2.4", "/x/%252e%252e/admin", "200 200", "public GET /x/%252e%252e/admin"},
		{"3986 2.4", "/x/..%252fadmin", "200 200", "public GET /x/..%252fadmin"},
		// Parameters are part of an element: to Kubernetes, and by RFC 3986, this is another one than "admin".
		{"3986 3.3", "/admin;x=1", "200 200", "public GET /admin;x=1"},
		// Expected: that "..;" is no dot segment either. Envoy takes it for one, as Tomcat does, and nobody sees it.
		{"3986 3.3", "/x/..;/admin", "200 200", "admin GET /admin"},
		{"3986 2.1", "/admin%00", "400", ""},
		{"3986 2.1", "/admin%", "400 200", ""},
		{"3986 2.1", "/%u0061dmin", "400 200", ""},
		{"3986 2.1", "/%6", "400 200", ""},
		{"3629 3", "/x/%c0%ae%c0%ae/admin", "200 200", "public GET /x/%c0%ae%c0%ae/admin"}, // no UTF-8, so no dots
		{"3629 3", "/x/..%c0%afadmin", "200 200", "public GET /x/..%c0%afadmin"},
		{"3986 6.2.2.1", "/ADMIN", "200 200", "public GET /ADMIN"},
		{"3986 3.3", "/admin%20", "200 200", "public GET /admin%20"},
		{"3986 3.3", "/admin.", "200 200", "public GET /admin."},
		{"3986 2.2", "/secret%3f", "200 200", "public GET /secret%3f"},
		{"3986 2.2", "/secret%23", "200 200", "public GET /secret%23"},
		{"3986 6.2.2.1", "/caf%C3%A9", "200 200", "admin GET /caf%C3%A9"},
		{"3986 6.2.2.1", "/caf%c3%A9/x", "200 200", "admin GET /caf%c3%A9/x"},
		{"3986 6.2.2.1", "/x/../caf%c3%a9?q", "200 200", "admin GET /caf%c3%a9?q"},
		{"3986 3.4", "/secret?/../x", "200 200", "admin GET /secret?/../x"},
		{"3986 3.4", "/x?100%", "200 200", "public GET /x?100%"}, // wrong, and harmless: no rule is about queries
		{"3986 3.4", "/x?/../admin", "200 200", "public GET /x?/../admin"},
		{"9112 3.2.2", "http://web/x/../admin", "200 200", "admin GET /admin"},
		{"9112 3.2.2", "http://web//admin", "200 200", "admin GET /admin"},
	} {
		table = append(table, hostile{
			name: "path " + p.path, rfc: p.rfc, want: p.want, seen: p.seen, send: "GET " + p.path + " HTTP/1.1\r\nHost: web\r\n\r\n",
		})
	}
	return table
}
