package ingress

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// A hostile2 is a conversation of frames by somebody who wants more than an answer.
type hostile2 struct {
	name string
	// rfc is the section that it abuses.
	rfc  string
	send func(*client2)
	// want is what becomes of the stream. RFC 9113 makes a malformed request an error of its stream (8.1.1) and allows to make it
	// one of the connection (5.4.2), as the gateway does. A GOAWAY with the code was expected before the end. It should be
	// there (5.4.1); Envoy sends it where the frame is wrong, and none where the request is.
	want string
	// stream is another than 1.
	stream uint32
	// seen is every whole request that a server got; never is what none may get.
	seen, never string
}

// malformed2 is a request that must not be.
func malformed2(name, rfc string, pairs ...string) hostile2 {
	return hostile2{name: name, rfc: rfc, want: "closed", never: "smuggled", send: func(f *client2) {
		f.did(f.WriteSettings())
		f.open(1, true, pairs...)
	}}
}

func (h hostile2) but(want string) hostile2 {
	h.want = want
	return h
}

func (h hostile2) of(stream uint32) hostile2 {
	h.stream = stream
	return h
}

func (h hostile2) saw(seen string) hostile2 {
	h.want, h.seen = "200", seen
	return h
}

// messages is about requests that say what HTTP/1.1 would make something else of.
func messages() []hostile2 {
	const crlf = "a\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: web\r\n\r\n"
	return []hostile2{
		malformed2("pseudo field after others", "9113 8.3", ":method", "GET", ":scheme", "http", "x", "1", ":authority", "web", ":path", "/"),
		malformed2(":path twice", "9113 8.3", request(":path", "/admin")...),
		malformed2(":method twice", "9113 8.3", request(":method", "POST")...),
		malformed2(":authority twice", "9113 8.3", request(":authority", "other")...),
		malformed2(":path beyond ASCII", "3986 2", asked(":path", "/?\u0085smuggled")...).but("400"),
		malformed2("pseudo field nobody knows", "9113 8.3", request(":evil", "1")...),
		malformed2("pseudo field of answers", "9113 8.3", request(":status", "200")...),
		malformed2(":path is missing", "9113 8.3.1", ":method", "GET", ":scheme", "http", ":authority", "web"),
		malformed2(":method is missing", "9113 8.3.1", ":scheme", "http", ":authority", "web", ":path", "/"),
		malformed2(":scheme is missing", "9113 8.3.1", ":method", "GET", ":authority", "web", ":path", "/"),
		malformed2(":path is empty", "9113 8.3.1", asked(":path", "")...),
		malformed2(":path without a slash", "9113 8.3.1", asked(":path", "admin")...),
		malformed2(":path with a URL", "9113 8.3.1", asked(":path", "http://other/admin")...),
		malformed2(":path * of GET", "9113 8.3.1", asked(":path", "*")...),
		malformed2(":path with CRLF", "9113 8.2.1", asked(":path", "/"+crlf)...),
		malformed2(":path with a space", "9113 10.3", asked(":path", "/ HTTP/1.1 smuggled")...),
		malformed2(":path with NUL", "9113 8.2.1", asked(":path", "/a\x00smuggled")...),
		malformed2(":path with a fragment", "9113 8.3.1", asked(":path", "/admin#x")...).but("400"),
		malformed2(":path with dots", "3986 5.2.4", asked(":path", "/x/../admin")...).saw("admin GET /admin"),
		malformed2(":path with an encoded slash", "3986 2.2", asked(":path", "/x/..%2fadmin")...).but("307"),
		malformed2(":method with a request", "9113 10.3", asked(":method", "GET /smuggled HTTP/1.1\r\nX: ")...),
		malformed2(":method with a space", "9113 10.3", asked(":method", "GET smuggled")...),
		malformed2(":authority with CRLF", "9113 8.2.1", asked(":authority", "web\r\nX: smuggled")...),
		malformed2(":authority with a slash", "9113 8.3.1", asked(":authority", "web/smuggled")...),
		malformed2(":authority with userinfo", "9113 8.3.1", asked(":authority", "smuggled@web")...),
		// Expected: 400. It should be malformed; Envoy drops the Host, so that nobody sees another name than was routed by.
		malformed2(":authority and Host differ", "9113 8.3.1", request("host", "smuggled")...).saw("public GET /"),
		malformed2(":scheme with a request", "9113 10.3", asked(":scheme", "http://smuggled/?")...),
		malformed2("value with CRLF", "9113 8.2.1", request("x", crlf)...),
		malformed2("value with LF", "9113 8.2.1", request("x", "a\nsmuggled: 1")...),
		malformed2("value with NUL", "9113 8.2.1", request("x", "a\x00smuggled")...),
		// Expected: closed. Envoy lets it pass; in HTTP/1.1, which the server gets, it is no part of the value.
		malformed2("value with space around", "9113 8.2.1", request("x", " y ")...).saw("public GET /"),
		malformed2("name in upper case", "9113 8.2.1", request("X-Smuggled", "1")...),
		malformed2("name with CRLF", "9113 8.2.1", request("x: a\r\nsmuggled", "1")...),
		malformed2("name with a colon", "9113 8.2.1", request("x:smuggled", "1")...),
		malformed2("name with a space", "9113 8.2.1", request("transfer-encoding ", "smuggled")...),
		malformed2("name is empty", "9113 8.2.1", request("", "smuggled")...),
		// Expected: 400, as over HTTP/1.1. The stream alone is reset, as the request is well formed.
		malformed2("name with underscore", "9110 5.1", request("x_forwarded_for", "smuggled")...).but("reset INTERNAL_ERROR"),
		malformed2("connection", "9113 8.2.2", request("connection", "close")...),
		malformed2("proxy-connection", "9113 8.2.2", request("proxy-connection", "keep-alive")...),
		malformed2("keep-alive", "9113 8.2.2", request("keep-alive", "timeout=5")...),
		malformed2("upgrade", "9113 8.2.2", request("upgrade", "websocket")...),
		malformed2("transfer-encoding", "9113 8.2.2", request("transfer-encoding", "chunked")...),
		malformed2("te that is not trailers", "9113 8.2.2", request("te", "gzip")...),
		malformed2("te is trailers", "9113 8.2.2", request("te", "trailers")...).saw("public GET /"),
		malformed2("content-length differ", "9110 8.6", request("content-length", "0", "content-length", "5")...),
		malformed2("content-length is no number", "9110 8.6", request("content-length", "0x0")...),
		malformed2("content-length without content", "9113 8.1.1", request("content-length", "5")...),
		malformed2("CONNECT with a path", "9113 8.5", asked(":method", "CONNECT")...),
		malformed2("CONNECT of a protocol that was not offered", "8441 3",
			":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":authority", "web", ":path", "/"),
		// Expected: 431, which a server can send. Envoy resets the stream, here and in the next.
		malformed2("fields beyond 60 KiB", "9113 10.5.1", request("x", strings.Repeat("smuggled", 8<<10))...).but("reset INTERNAL_ERROR"),
		malformed2("fields beyond 100", "9113 10.5.1", request(many(101)...)...).but("reset INTERNAL_ERROR"),
		body("content-length less than content", "9113 8.1.1", "3", "hello"),
		body("content-length more than content", "9113 8.1.1", "50", "hello"),
		{name: "trailers with a pseudo field", rfc: "9113 8.1", want: "closed", send: func(f *client2) {
			f.did(f.WriteSettings())
			f.open(1, false, asked(":method", "POST")...)
			f.open(1, true, ":path", "/admin")
		}},
		{name: "trailers that do not end", rfc: "9113 8.1", want: "closed", send: func(f *client2) {
			f.did(f.WriteSettings())
			f.open(1, false, asked(":method", "POST")...)
			f.open(1, false, "x", "1")
		}},
	}
}

func many(n int) []string {
	var pairs []string
	for range n {
		pairs = append(pairs, "x-many", "smuggled")
	}
	return pairs
}

// body is a request whose content has another length than it says.
func body(name, rfc, length, content string) hostile2 {
	return hostile2{name: name, rfc: rfc, want: "reset PROTOCOL_ERROR", send: func(f *client2) {
		f.did(f.WriteSettings())
		f.open(1, false, append(asked(":method", "POST"), "content-length", length)...)
		f.did(f.WriteData(1, true, []byte(content)))
	}}
}

// TestHostileHTTP2: what HTTP/2 can carry and HTTP/1.1 cannot never comes to a server, and no conversation of frames holds up
// another client.
func TestHostileHTTP2(t *testing.T) {
	t.Parallel()
	eitherWay(t, hostileHTTP2)
}

func hostileHTTP2(t *testing.T, g *gateway) {
	w := edgeRules(g)
	rows := append(messages(), conversations()...)
	// Envoy ends a connection a second after it gave it up: these wait for it together.
	alone, together := []hostile2{}, map[*client2]hostile2{}
	for _, h := range rows {
		if h.want != "closed" || h.seen != "" {
			alone = append(alone, h)
			continue
		}
		f := g.client2(t)
		h.send(f)
		together[f] = h
	}
	g.another(t)
	for f, h := range together {
		t.Run(strings.ReplaceAll(h.name, "/", "|"), func(t *testing.T) { h.ends(t, f) })
	}
	if seen, raw := w.take(t); seen != victimSeen || strings.Contains(raw, "smuggled") {
		t.Errorf("of requests that close their connections servers saw %q: %q", seen, raw)
	}
	for _, h := range alone {
		t.Run(strings.ReplaceAll(h.name, "/", "|"), func(t *testing.T) {
			f := g.client2(t)
			h.send(f)
			h.ends(t, f)
			g.another(t)
			seen, raw := w.take(t)
			if want := strings.TrimPrefix(h.seen+"; "+victimSeen, "; "); seen != want && h.seen != anything {
				t.Errorf("RFC %s: servers saw %q, want %q", h.rfc, seen, want)
			}
			if h.never != "" && strings.Contains(strings.ToLower(raw), h.never) {
				t.Errorf("RFC %s: servers saw %q in %q", h.rfc, h.never, raw)
			}
		})
	}
}

// another client is answered at once.
func (g *gateway) another(t *testing.T) {
	t.Helper()
	begun := time.Now()
	if got := g.provoke(t, ""); got != "200" {
		t.Errorf("then another client is answered by %q", got)
	}
	if took := time.Since(begun); took > time.Second {
		t.Errorf("then another client waits for %v", took)
	}
}

// ends checks what becomes of the conversation.
func (h hostile2) ends(t *testing.T, f *client2) {
	t.Helper()
	if got := f.outcome(max(h.stream, 1)); !slices.Contains(strings.Split(h.want, " or "), got) {
		t.Errorf("RFC %s: ends with %q, want %q; write: %v", h.rfc, got, h.want, f.failed)
	}
}

// anything is seen of requests that are canceled, or answered too late.
const anything = "anything"
