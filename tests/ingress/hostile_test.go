package ingress

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A hostile is what somebody sends who wants more than an answer.
type hostile struct {
	name string
	// rfc is the section that it abuses.
	rfc string
	// send is what comes first on a connection. A victim's request follows, as of another client of the same proxy.
	send string
	// want is the statuses of all answers, the victim's among them: one that is missing was not answered, since the
	// connection was closed.
	want string
	// seen is every whole request that a server got before the victim's, as "server method target body".
	seen string
	// never is what no server may get.
	never string
}

const (
	victim     = "GET /victim HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"
	victimSeen = "public GET /victim"
)

// edgeRules has a guarded path beside an open one, and another host.
func edgeRules(g *gateway) *witness {
	g.t.Helper()
	w := &witness{}
	for _, name := range []string{"public", "admin", "other"} {
		l := g.listen(g.outside, serverAddress+":0")
		go w.serve(name, l)
		g.serviceAt(name, uint16(l.Addr().(*net.TCPAddr).Port))
	}
	g.apply(rules("web", 1, "web|P|/|public", "web|P|/admin|admin", "web|E|/secret|admin", "web|P|/café|admin", "other|P|/|other"))
	return w
}

// A witness is the servers behind the gateway: it has every byte that they got, and the requests in them.
type witness struct {
	mu       sync.Mutex
	bytes    bytes.Buffer
	requests []string
	// broken is what was no request.
	broken []string
}

func (w *witness) serve(name string, l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			w.converse(name, c)
		}()
	}
}

// Write keeps the bytes.
func (w *witness) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.bytes.Write(p)
}

// converse answers each request when it is whole.
func (w *witness) converse(name string, c net.Conn) {
	reader := bufio.NewReader(io.TeeReader(c, w))
	for {
		request, err := http.ReadRequest(reader)
		if err != nil {
			// A connection that ends, within a request or not, is what is left of one that the gateway gave up.
			if !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, net.ErrClosed) && !isReset(err) {
				w.note(&w.broken, fmt.Sprintf("%s: %v", name, err))
			}
			return
		}
		body, err := io.ReadAll(request.Body)
		if err != nil {
			return
		}
		w.note(&w.requests, strings.TrimSpace(fmt.Sprintf("%s %s %s %s", name, request.Method, request.RequestURI, body)))
		if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"); err != nil {
			return
		}
	}
}

func isReset(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}

func (w *witness) note(list *[]string, what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*list = append(*list, what)
}

// take returns what was seen since the last time.
func (w *witness) take(t *testing.T) (requests, raw string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, b := range w.broken {
		t.Errorf("a server got what is no request: %s", b)
	}
	requests, raw = strings.Join(w.requests, "; "), w.bytes.String()
	w.requests, w.broken = nil, nil
	w.bytes.Reset()
	return requests, raw
}

// provoke sends bytes, and a victim's request after them, and returns the statuses of all answers until the connection ends.
func (g *gateway) provoke(t *testing.T, request string) string {
	t.Helper()
	c := g.connect(t, "http/1.1")
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	written := make(chan struct{})
	go func() { // the gateway need not read it to the end
		defer close(written)
		_, _ = io.WriteString(c, request+victim)
	}()
	var answers []string
	reader := bufio.NewReader(c)
	for {
		response, err := http.ReadResponse(reader, nil)
		if err != nil {
			return strings.Join(append(answers, ending(err)...), " ")
		}
		_, _ = io.Copy(io.Discard, response.Body)
		answers = append(answers, fmt.Sprint(response.StatusCode))
		if response.Close { // it would wait for us to go: whatever else it would answer comes before its end
			<-written
			leave(c)
		}
	}
}

// leave says that nothing more follows. Envoy, which waits for that for a second, does not take the word of TLS for it.
func leave(c net.Conn) {
	if secure, ok := c.(*tls.Conn); ok {
		_ = secure.CloseWrite()
		c = secure.NetConn()
	}
	_ = c.(*net.TCPConn).CloseWrite()
}

// ending says how a connection ended, if it is not as it should.
func ending(err error) []string {
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isReset(err) && !errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return []string{"open"}
	}
	return []string{err.Error()}
}

// overTLS is a gateway whose hostile clients speak TLS, and ask for no host by it: so each host has its plain routes.
func overTLS(t *testing.T) *gateway {
	t.Helper()
	g := start(t, func(c *ingress.Config, e *envoy.GatewayConfig) {
		c.DefaultCertificate = mesh.Object{Kind: ingress.Secret, Namespace: "default", Name: "default"}
		e.DefaultCertificate = c.DefaultCertificate
	})
	g.certificate("default", "default.example")
	g.secure = true
	return g
}

// connect is a hostile client's connection.
func (g *gateway) connect(t *testing.T, protocol string) net.Conn {
	t.Helper()
	port := ":8080"
	if g.secure {
		port = ":8443"
	}
	c, err := g.dial(t.Context(), gatewayAddress+port)
	if err != nil {
		t.Fatal(err)
	}
	if !g.secure {
		return c
	}
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{protocol}})
	if err := secure.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := secure.ConnectionState().NegotiatedProtocol; got != protocol {
		t.Fatalf("the gateway speaks %s, not %s", got, protocol)
	}
	return secure
}

// eitherWay runs a test of a plain gateway, and of one over TLS.
func eitherWay(t *testing.T, test func(*testing.T, *gateway)) {
	t.Helper()
	for name, begin := range map[string]func(*testing.T) *gateway{
		"plain": func(t *testing.T) *gateway { return start(t) }, "TLS": overTLS,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, begin(t))
		})
	}
}

// TestHostileRequests: no bytes make the gateway and a server disagree on where a request ends, whom it is for, or what it
// asks; what cannot be read ends the connection, and nobody else notices.
func TestHostileRequests(t *testing.T) {
	t.Parallel()
	eitherWay(t, hostileRequests)
}

func hostileRequests(t *testing.T, g *gateway) {
	w := edgeRules(g)
	rows := 0
	for _, table := range [][]hostile{framing(), syntax(), hosts(), targets(), paths()} {
		for _, h := range table {
			rows++
			t.Run(strings.ReplaceAll(h.name, "/", "|"), func(t *testing.T) { g.suffers(t, w, h) })
		}
	}
	if rows < 100 {
		t.Errorf("only %d hostile requests", rows)
	}
}

// suffers sends a row and compares.
func (g *gateway) suffers(t *testing.T, w *witness, h hostile) {
	t.Helper()
	if got := g.provoke(t, h.send); got != h.want {
		t.Errorf("RFC %s: %q is answered by %q, want %q", h.rfc, brief(h.send), got, h.want)
	}
	if got := g.provoke(t, ""); got != "200" {
		t.Errorf("then another client is answered by %q", got)
	}
	seen, raw := w.take(t)
	if want := h.expected(); seen != want {
		t.Errorf("RFC %s: of %q servers saw %q, want %q", h.rfc, brief(h.send), seen, want)
	}
	if h.never != "" && strings.Contains(strings.ToLower(raw), strings.ToLower(h.never)) {
		t.Errorf("RFC %s: of %q servers saw %q in %q", h.rfc, brief(h.send), h.never, raw)
	}
}

// expected is what servers see of a row, of its victim if that is answered, and of the next client.
func (h hostile) expected() string {
	var list []string
	if h.seen != "" {
		list = append(list, h.seen)
	}
	if strings.HasSuffix(h.want, " 200") {
		list = append(list, victimSeen)
	}
	return strings.Join(append(list, victimSeen), "; ")
}

func brief(text string) string {
	if len(text) > 300 {
		return text[:300] + "…"
	}
	return text
}
