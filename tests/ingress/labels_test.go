package ingress

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// annotated adds an annotation to an Ingress.
func annotated(ingress, key, value string) string {
	return strings.Replace(ingress, "metadata:\n", fmt.Sprintf("metadata:\n  annotations: {%s: %q}\n", key, value), 1)
}

// TestLabelsAtTheGateway: what a Service's labels say of requests acts without a label that opens a port; faults do not.
func TestLabelsAtTheGateway(t *testing.T) {
	t.Parallel()
	g := start(t)
	failures := 0
	l := g.listen(g.outside, serverAddress+":0")
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/slow":
			<-r.Context().Done()
		case "/flaky":
			if failures++; failures%3 != 0 {
				w.WriteHeader(http.StatusInternalServerError)
				return
			}
		}
		mirror("web")(w, r)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	port := mustPort(t, l)
	g.serviceAt("web", port, "traffic.request.timeout", "500ms", "traffic.retries.5xx", "2",
		"traffic.fault.abort.percentage", "100", "traffic.rate.limit", "1")
	g.apply(rules("web", 1, "web|P|/|web"))
	for path, want := range map[string]string{"/": "web", "/slow": "504", "/flaky": "web"} {
		if got := g.get("http://web" + path).outcome(); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	g.serviceAt("web", port, "traffic.port.80", "tcp")
	g.publish()
	if got := g.get("http://web/").outcome(); got != "web" {
		t.Errorf("a tcp port: %s", got)
	}
}

// TestWeightsAndHashing: endpoints get their share, and requests with one header stay together.
func TestWeightsAndHashing(t *testing.T) {
	t.Parallel()
	g := start(t)
	var ports []uint16
	for _, name := range []string{"one", "two", "three"} {
		g.service(name)
	}
	for _, name := range []string{"one", "two", "three"} {
		p, err := g.mesh.Backend(objectOf("Service", name), "", 80)
		if err != nil {
			t.Fatal(err)
		}
		ports = append(ports, p.Endpoints[0].Address.Port())
	}
	g.serviceAt("all", ports[0])
	g.endpoints("all", ports...)
	g.apply(rules("web", 1, "web|P|/|all"))
	answered := func(count int, headers ...string) map[string]int {
		who := map[string]int{}
		client := g.client(nil)
		for range count {
			a, err := ask(client, "http://web/", headers...)
			if err != nil {
				t.Fatal(err)
			}
			who[a.Server]++
		}
		return who
	}
	// Each of Envoy's workers goes round for itself; one connection has one worker.
	if who := answered(30); who["one"] != 10 || who["two"] != 10 || who["three"] != 10 {
		t.Errorf("answered by %v", who)
	}
	g.serviceAt("all", ports[0], "traffic.lb.policy", "RING_HASH", "traffic.hash.header.name", "x-user")
	g.endpoints("all", ports...)
	g.publish()
	servers := map[string]bool{}
	for n := range 20 {
		who := answered(3, "x-user", fmt.Sprint("user", n))
		if len(who) != 1 {
			t.Errorf("one user is answered by %v", who)
		}
		for name := range who {
			servers[name] = true
		}
	}
	if len(servers) < 2 {
		t.Errorf("all users are answered by %v", servers)
	}
}

// TestAnnotations: each does what its page says.
func TestAnnotations(t *testing.T) {
	t.Parallel()
	g := start(t)
	g.service("web")
	endpoint := httptest.NewUnstartedServer(mirror("tls"))
	endpoint.EnableHTTP2 = true
	endpoint.Listener.Close()
	endpoint.Listener = g.listen(g.outside, serverAddress+":0")
	endpoint.StartTLS()
	t.Cleanup(endpoint.Close)
	g.serviceAt("tls", mustPort(t, endpoint.Listener))
	const prefix = "traffic.ingress/"
	g.apply(strings.Join([]string{
		annotated(rules("https", 1, "https|P|/|tls"), prefix+"backend-protocol", "https"),
		annotated(rules("grpcs", 1, "grpcs|P|/|tls"), prefix+"backend-protocol", "grpcs"),
		annotated(rules("grpc", 1, "grpc|P|/|web"), prefix+"backend-protocol", "grpc"),
		annotated(rules("small", 1, "small|P|/|web"), prefix+"max-request-body", "1Ki"),
		annotated(rules("large", 1, "large|P|/|web"), prefix+"max-request-body", "1Gi"),
		annotated(rules("inside", 1, "inside|P|/|web"), prefix+"allow-source-ranges", "10.244.7.0/24"),
		annotated(rules("outside", 1, "outside|P|/|web"), prefix+"allow-source-ranges", "192.0.2.0/24,2001:db8::/32"),
		annotated(rules("nobody", 1, "nobody|P|/|web"), prefix+"allow-source-ranges", "office"),
	}, "\n---\n"))
	for _, test := range []struct{ host, want, protocol string }{
		{"https", "tls", "HTTP/1.1"}, {"grpcs", "tls", "HTTP/2.0"}, {"grpc", "web", "HTTP/2.0"}, {"inside", "web", "HTTP/1.1"}, {"outside", "403", ""}, {"nobody", "403", ""},
	} {
		if a := g.get("http://" + test.host + "/"); a.outcome() != test.want || a.Protocol != test.protocol {
			t.Errorf("%s: %s over %s, want %s over %s", test.host, a.outcome(), a.Protocol, test.want, test.protocol)
		}
	}
	// Nobody is let in for what he says of himself.
	if got := g.get("http://outside/", "X-Forwarded-For", "192.0.2.1").outcome(); got != "403" {
		t.Errorf("with a forged address: %s", got)
	}
	for _, test := range []struct {
		host    string
		length  int
		chunked bool
		want    string
	}{
		{"small", 1024, false, "web"},
		{"small", 1024, true, "web"},
		{"small", 1025, false, "413"},
		{"small", 1025, true, "413"},
		// What is held is everybody's memory, and bounded whatever an Ingress says.
		{"large", 3 << 20, false, "web"},
		{"large", 1 << 20, true, "web"},
		{"large", 3 << 20, true, "413"},
	} {
		var body io.Reader = strings.NewReader(strings.Repeat("x", test.length))
		if test.chunked {
			body = io.MultiReader(body)
		}
		request, err := http.NewRequest(http.MethodPost, "http://"+test.host+"/", body)
		if err != nil {
			t.Fatal(err)
		}
		a, err := do(g.client(nil), request)
		if err != nil || a.outcome() != test.want {
			t.Errorf("%s: a body of %d bytes, chunked %t: %s, want %s: %v", test.host, test.length, test.chunked, a.outcome(), test.want, err)
		}
	}
	request, err := http.NewRequest(http.MethodPost, "http://large/", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	// Of a body that is not there but announced as 2 GiB, none is taken.
	announced, nothing := io.Pipe()
	defer nothing.Close()
	request.Body, request.ContentLength = announced, 2<<30
	if a, err := do(g.client(nil), request); err != nil || a.outcome() != "413" {
		t.Errorf("a body that is announced as 2 GiB: %s: %v", a.outcome(), err)
	}
}

// TestIdleConnections: the gateway leaves a connection to a server before the server does, however they speak, or a request
// is lost that is sent in that moment. Gunicorn is the first to close, after two seconds.
func TestIdleConnections(t *testing.T) {
	t.Parallel()
	g := start(t)
	protocols := []string{"http", "http2", "https", "grpcs"}
	kept := make(chan time.Duration, len(protocols))
	for _, protocol := range protocols {
		var idle atomic.Int64
		server := httptest.NewUnstartedServer(mirror(protocol))
		server.Listener = g.listen(g.outside, serverAddress+":0")
		server.EnableHTTP2 = true
		server.Config.Protocols = new(http.Protocols)
		server.Config.Protocols.SetHTTP1(true)
		server.Config.Protocols.SetHTTP2(true)
		server.Config.Protocols.SetUnencryptedHTTP2(true)
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateIdle {
				idle.Store(time.Now().UnixNano())
			}
			if state == http.StateClosed {
				kept <- time.Since(time.Unix(0, idle.Load()))
			}
		}
		if protocol == "https" || protocol == "grpcs" {
			server.StartTLS()
		} else {
			server.Start()
		}
		t.Cleanup(server.Close)
		g.serviceAt(protocol, mustPort(t, server.Listener))
		g.set([]byte(annotated(rules(protocol, 1, protocol+"|P|/|"+protocol), "traffic.ingress/backend-protocol", protocol)))
	}
	g.publish()
	for _, protocol := range protocols {
		if got := g.get("http://" + protocol + "/").outcome(); got != protocol {
			t.Errorf("%s: %s", protocol, got)
		}
	}
	for range protocols {
		select {
		case d := <-kept:
			if d < time.Second || d > 1900*time.Millisecond {
				t.Errorf("a silent connection is kept for %v", d)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a silent connection is kept for 5 seconds and more")
		}
	}
}

// TestBodiesAreTriedAgain: of a request with a body of up to 1 MiB, too, the client sees no failed attempt, whatever it speaks.
func TestBodiesAreTriedAgain(t *testing.T) {
	t.Parallel()
	g := start(t)
	const size = 900 << 10
	var attempts atomic.Int64
	g.serveWith("web", func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if attempts.Add(1)%2 == 1 || n != size || err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}, "traffic.retries.5xx", "1")
	g.apply(rules("web", 1, "web|P|/|web"))
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		client := g.client(nil)
		protocols := new(http.Protocols)
		protocols.SetHTTP1(protocol == "HTTP/1.1")
		protocols.SetUnencryptedHTTP2(protocol == "HTTP/2.0")
		client.Transport.(*http.Transport).Protocols = protocols
		response, err := client.Post("http://web/", "text/plain", bytes.NewReader(make([]byte, size)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK || response.Proto != protocol {
			t.Errorf("%s: %s over %s after %d attempts", protocol, response.Status, response.Proto, attempts.Load())
		}
		client.CloseIdleConnections()
	}
}
