package ingress

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/drain"
)

// echo agrees to a WebSocket and sends back what comes.
func echo(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 1 || r.Header.Get("Upgrade") == "" {
			w.WriteHeader(http.StatusUpgradeRequired)
			return
		}
		c, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		fmt.Fprint(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(c, buffered)
	}
}

// A webSocket is one that a server agreed to.
type webSocket struct {
	net.Conn
	from *bufio.Reader
}

// webSocket shakes hands over a connection.
func (g *gateway) webSocket(c net.Conn, host string) webSocket {
	g.t.Helper()
	g.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", host)
	w := webSocket{c, bufio.NewReader(c)}
	response, err := http.ReadResponse(w.from, nil)
	if err != nil {
		g.t.Fatalf("%s: %v", host, err)
	}
	if response.StatusCode != http.StatusSwitchingProtocols {
		g.t.Fatalf("%s: a handshake gets %s", host, response.Status)
	}
	return w
}

// say is an error unless what is said comes back.
func (w webSocket) say(text string) error {
	_ = w.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	got := make([]byte, len(text))
	if _, err := io.ReadFull(w.from, got); err != nil || string(got) != text {
		return fmt.Errorf("echo %q: %w", got, err)
	}
	return nil
}

// TestWebSocket: a connection that changes its protocol goes through, whatever the client, the server and the annotations; who is not
// let in is not by a handshake.
func TestWebSocket(t *testing.T) {
	t.Parallel()
	g := start(t)
	const prefix = "traffic.ingress/"
	g.serveWith("web", echo(t))
	endpoint := httptest.NewUnstartedServer(echo(t))
	endpoint.EnableHTTP2 = true
	endpoint.Listener.Close()
	endpoint.Listener = g.listen(g.outside, serverAddress+":0")
	endpoint.StartTLS()
	t.Cleanup(endpoint.Close)
	g.serviceAt("tls", mustPort(t, endpoint.Listener))
	g.certificate("a", "a.example")
	g.apply(strings.Join([]string{
		secured(rules("web", 1, "a.example|P|/|web"), "a|a.example"),
		annotated(rules("https", 1, "https|P|/|tls"), prefix+"backend-protocol", "https"),
		annotated(rules("small", 1, "small|P|/|web"), prefix+"max-request-body", "1Ki"),
		strings.Replace(annotated(rules("outside", 1, "outside|P|/|web"), prefix+"max-request-body", "1Ki"),
			"annotations: {", "annotations: {"+prefix+"allow-source-ranges: 192.0.2.0/24, ", 1),
	}, "\n---\n"))
	var body atomic.Int64
	g.serveWith("refuses", func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		body.Add(n)
	})
	g.apply(annotated(rules("refuses", 1, "refuses|P|/|refuses"), prefix+"max-request-body", "1Ki"))
	dial := func(port string) net.Conn {
		c, err := g.dial(t.Context(), "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	secure := tls.Client(dial("8443"), &tls.Config{InsecureSkipVerify: true, ServerName: "a.example", NextProtos: []string{"http/1.1"}})
	for host, c := range map[string]net.Conn{"a.example": secure, "https": dial("8080"), "small": dial("8080")} {
		w := g.webSocket(c, host)
		// More than a body may be: it is none.
		if err := w.say(strings.Repeat("x", 2<<10)); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	// What only looks like a handshake gets no larger body past the limit.
	c := dial("8080")
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: refuses\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nTransfer-Encoding: chunked\r\n\r\n800\r\n%s\r\n0\r\n\r\n",
		strings.Repeat("x", 2<<10))
	answer, err := io.ReadAll(c)
	if n := body.Load(); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") || n > 0 {
		t.Errorf("a server that agrees to nothing gets %d bytes; answer %q, %v", n, answer, err)
	}
	if got := g.get("http://outside/", "Connection", "Upgrade", "Upgrade", "websocket").outcome(); got != "403" {
		t.Errorf("who is not let in gets %s", got)
	}
}

// TestWebSocketWhileItDrains: one that is in use goes on for as long as the gateway may take to end. Envoy of its own accord ends
// them in the last third of its drain time, if that is longer than 15 seconds.
func TestWebSocketWhileItDrains(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.drainSeconds = 16
	g.run()
	g.serveWith("web", echo(t))
	g.apply(rules("web", 1, "web|P|/|web"))
	c, err := g.dial(t.Context(), "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	w := g.webSocket(c, "web")
	d := drain.Drainer{
		Socket: filepath.Join(g.folder, "admin.sock"), Silent: filepath.Join(g.folder, "silent"), StatPrefix: "traffic-ingress",
		Close: 16 * time.Second, Spare: time.Second, Quiet: time.Second, Timeout: 20 * time.Second,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	began, drained := time.Now(), make(chan error, 1)
	go func() { drained <- d.Run(t.Context()) }()
	for {
		if err := w.say("ping"); err != nil {
			t.Fatalf("it ends after %v: %v", time.Since(began), err)
		}
		select {
		case err := <-drained:
			if took := time.Since(began); err != nil || took < d.Timeout {
				t.Errorf("drained after %v: %v", took, err)
			}
			response, err := g.client(nil).Get("http://web/")
			if err != nil {
				t.Fatal(err)
			}
			if response.Body.Close(); !response.Close {
				t.Error("after its drain time an answer does not end its connection")
			}
			return
		case <-time.After(500 * time.Millisecond):
		}
	}
}
