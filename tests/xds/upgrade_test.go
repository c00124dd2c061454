package xds

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// switching agrees to every upgrade of /switch and then answers every byte; /socket is a WebSocket that answers every
// message; /silent answers nothing; all else is answered with the request's headers.
func switching(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/silent":
		<-r.Context().Done()
	case "/socket":
		websocket.Handler(func(c *websocket.Conn) { _, _ = io.Copy(c, c) }).ServeHTTP(w, r)
	case "/switch":
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		_, _ = io.Copy(conn, buffered)
	default:
		_ = r.Header.Write(w)
	}
}

// upgrade asks a server to switch to a protocol. It returns the answer, and the connection if it agreed.
func (w *world) upgrade(t *testing.T, address, path, protocol string, headers ...string) (*http.Response, held) {
	t.Helper()
	conn, err := w.dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(3 * patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: web\r\nUpgrade: %s\r\n%s\r\n", path, protocol,
		strings.Join(append(headers, ""), "\r\n"))
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		t.Fatalf("%s: %v", protocol, err)
	}
	return response, held{protocol, func() error { return askLine(conn, reader) }}
}

const asksFor = "Connection: Upgrade"

// TestUpgrades: a WebSocket, and what else passes, is the client's and the server's until one of them ends it, whatever
// labels change and whatever they say of requests.
func TestUpgrades(t *testing.T) {
	const timeout = 200 * time.Millisecond
	w := newWorld(t)
	c := startControl(t, w)
	web := newService("web", label.HTTP, w.serve(t, http.HandlerFunc(switching)), w.serve(t, http.HandlerFunc(switching)))
	c.publish(t, open(t, web))
	startSidecar(t, w, c)

	var all []held
	connect := func() {
		t.Helper()
		for _, protocol := range []string{"websocket", "WebSocket", "SPDY/3.1", "tcp"} {
			response, conn := w.upgrade(t, web.address(), "/switch", protocol, asksFor)
			if response.StatusCode != http.StatusSwitchingProtocols || response.Header.Get("Upgrade") != protocol {
				t.Errorf("%s: %d, %v", protocol, response.StatusCode, response.Header)
				continue
			}
			all = append(all, conn)
		}
		all = append(all, w.webSocket(t, web.address()))
	}
	connect()
	for _, change := range []struct {
		what   string
		change func()
	}{
		{"nothing", func() {}},
		{"a weight", func() { web.Endpoints[0].Weight = 1 }},
		{"a policy", func() { web.Settings.Balancing.Policy = label.LeastRequest }},
		{"a timeout", func() { web.Settings.RequestTimeout = timeout }},
		{"retries", func() { web.Settings.Retries.ServerError = 2 }},
		{"an endpoint that goes", func() { web.Endpoints = web.Endpoints[:1] }},
	} {
		change.change()
		c.publish(t, open(t, web))
		connect()
		time.Sleep(2 * timeout) // nothing may happen in this time: there is nothing else to wait for
		for _, conn := range all {
			if err := conn.ask(); err != nil {
				t.Errorf("after %s: %s: %v", change.what, conn.name, err)
			}
		}
	}
	if response, _ := w.upgrade(t, web.address(), "/silent", "websocket", asksFor); response.StatusCode != http.StatusGatewayTimeout {
		t.Errorf("a server that does not answer the handshake: %d, want 504", response.StatusCode)
	}
}

// webSocket keeps a WebSocket, shaken hands by a library at both ends.
func (w *world) webSocket(t *testing.T, address string) held {
	t.Helper()
	conn, err := w.dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	config, err := websocket.NewConfig("ws://web/socket", "http://web")
	if err != nil {
		t.Fatal(err)
	}
	socket, err := websocket.NewClient(config, conn)
	if err != nil {
		t.Fatal(err)
	}
	return held{"a real WebSocket", func() error { return askLine(socket, socket) }}
}

// TestUpgradesThatDoNotPass: an offer that a server may ignore is not passed on, and the request is answered; what Envoy
// cannot pass is refused at once, and works through a tcp port.
func TestUpgradesThatDoNotPass(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	server := w.serve(t, http.HandlerFunc(switching))
	proxy := w.forwardProxy(t)
	web, bytes := newService("web", label.HTTP, server), newService("bytes", label.TCP, server)
	grpc := newService("grpc", label.HTTP2, server)
	byHTTP, byTCP := newService("proxy-http", label.HTTP, proxy), newService("proxy-tcp", label.TCP, proxy)
	c.publish(t, open(t, web, bytes, grpc, byHTTP, byTCP))
	startSidecar(t, w, c)

	for _, test := range []struct {
		service  *service
		path     string
		protocol string
		headers  []string
		status   int
	}{
		{web, "/", "h2c", []string{asksFor + ", HTTP2-Settings", "HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA"}, http.StatusOK},
		{web, "/", "TLS/1.2", []string{asksFor}, http.StatusOK},
		{web, "/", "websocket", nil, http.StatusOK}, // no offer without the word in Connection
		{web, "/switch", "chat/1", []string{asksFor}, http.StatusForbidden},
		{bytes, "/switch", "chat/1", []string{asksFor}, http.StatusSwitchingProtocols},
		{grpc, "/switch", "websocket", []string{asksFor}, http.StatusBadGateway}, // HTTP/2 has no Upgrade
	} {
		response, conn := w.upgrade(t, test.service.address(), test.path, test.protocol, test.headers...)
		if response.StatusCode != test.status {
			t.Errorf("%s to %s: %d, want %d", test.protocol, test.service.Owner.Name, response.StatusCode, test.status)
		}
		switch response.StatusCode {
		case http.StatusOK:
			body, err := io.ReadAll(response.Body)
			if text := string(body); err != nil || strings.Contains(text, "Upgrade") || strings.Contains(text, "Http2") {
				t.Errorf("%s: the server sees %q, %v", test.protocol, text, err)
			}
		case http.StatusSwitchingProtocols:
			if err := conn.ask(); err != nil {
				t.Errorf("%s to %s: %v", test.protocol, test.service.Owner.Name, err)
			}
		}
	}
	for service, want := range map[*service]int{byHTTP: http.StatusNotFound, byTCP: http.StatusOK} {
		conn, err := w.dial(t.Context(), service.address())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "CONNECT far:443 HTTP/1.1\r\nHost: far:443\r\n\r\n")
		reader := bufio.NewReader(conn)
		response, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
		if err != nil || response.StatusCode != want {
			t.Errorf("CONNECT to %s: %v, %v, want %d", service.Owner.Name, response, err, want)
			continue
		}
		if want != http.StatusOK {
			continue
		}
		if err := askLine(conn, reader); err != nil {
			t.Errorf("CONNECT to %s: %v", service.Owner.Name, err)
		}
	}
}

// forwardProxy answers CONNECT with a server that answers every byte. It returns its port.
func (w *world) forwardProxy(t *testing.T) uint16 {
	t.Helper()
	return w.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodConnect {
			http.Error(rw, "only CONNECT", http.StatusMethodNotAllowed)
			return
		}
		conn, buffered, err := http.NewResponseController(rw).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n")
		_, _ = io.Copy(conn, buffered)
	}))
}
