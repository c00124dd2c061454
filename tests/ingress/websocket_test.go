package ingress

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
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
