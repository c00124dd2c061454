package xds

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// failing answers every request with 503.
var failing = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })

// send makes a request with a body over a new connection.
func (w *world) send(t *testing.T, method, url string, body []byte, headers ...string) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, "http://"+url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	client := w.client(false)
	client.Timeout = patience
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

// TestRetriesFindTheOtherEndpoint: one retry is enough where one endpoint of two works, even if next to nothing would be
// sent there, whatever picks endpoints.
func TestRetriesFindTheOtherEndpoint(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	bad, good := w.serve(t, failing), w.backend(t, "good")
	var services []*service
	for _, policy := range []label.Policy{label.RoundRobin, label.LeastRequest, label.Random, label.RingHash, label.Maglev} {
		s := newService(policy.String(), label.HTTP, bad, good)
		s.Endpoints[0].Weight, s.Endpoints[1].Weight = label.MaxWeight, 1
		if policy == label.Maglev {
			s.Endpoints[1].Weight = 10 // its picks are as good as random: this fails once in 10^33 retries
		}
		s.Settings.Balancing = label.Balancing{Policy: policy, HashHeader: "x-user"}
		s.Settings.Retries.ServerError = 1
		services = append(services, s)
	}
	c.publish(t, open(t, services...))
	startSidecar(t, w, c)
	for _, s := range services {
		for i := range 60 {
			if status, text := w.send(t, http.MethodGet, s.address()+"/", nil, "x-user", strconv.Itoa(i)); text != "good" {
				t.Errorf("%s: request %d: %d %q", s.Owner.Name, i, status, text)
				break
			}
		}
	}
}

// TestRetriesSendTheBody: a request is tried again with its body, POST too; one whose body is too large to keep is sent
// once, and complete.
func TestRetriesSendTheBody(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	var attempts atomic.Int64
	server := w.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			return
		}
		if attempts.Add(1) <= 2 && r.URL.Path == "/fails" {
			rw.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprint(rw, n)
	}))
	web := newService("web", label.HTTP, server)
	web.Settings.Retries.ServerError = 3
	c.publish(t, open(t, web))
	startSidecar(t, w, c)
	tests := []struct {
		path     string
		size     int
		status   int
		attempts int64
	}{
		{"/fails", 500 << 10, http.StatusOK, 3},
		{"/", 10 << 20, http.StatusOK, 1},
		{"/fails", 10 << 20, http.StatusServiceUnavailable, 1},
	}
	for _, test := range tests {
		attempts.Store(0)
		status, text := w.send(t, http.MethodPost, web.address()+test.path, make([]byte, test.size))
		if status != test.status || text != strconv.Itoa(test.size) || attempts.Load() != test.attempts {
			t.Errorf("%s, %d bytes: %d %q after %d attempts, want %d after %d", test.path, test.size, status, text, attempts.Load(), test.status, test.attempts)
		}
	}
}

// TestWhatATimeoutLeavesAlone: a WebSocket is no answer that takes long; a delay and an upload are not the server's time.
func TestWhatATimeoutLeavesAlone(t *testing.T) {
	const timeout = 300 * time.Millisecond
	w := newWorld(t)
	c := startControl(t, w)
	server := w.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/socket":
			socket(rw)
		case "/slow":
			select {
			case <-time.After(10 * timeout):
			case <-r.Context().Done():
			}
		default:
			_, _ = io.Copy(io.Discard, r.Body)
			fmt.Fprint(rw, "fine")
		}
	}))
	web, delayed := newService("web", label.HTTP, server), newService("delayed", label.HTTP, server)
	web.Settings.RequestTimeout, delayed.Settings.RequestTimeout = timeout, timeout
	delayed.Settings.Fault = label.Fault{Delay: 2 * timeout, DelayPercentage: label.Hundred}
	c.publish(t, open(t, web, delayed))
	startSidecar(t, w, c)

	start := time.Now()
	if status, _ := w.send(t, http.MethodGet, web.address()+"/slow", nil); status != http.StatusGatewayTimeout || time.Since(start) < timeout*9/10 {
		t.Errorf("a slow answer: %d after %v", status, time.Since(start))
	}
	if status, text := w.send(t, http.MethodGet, delayed.address()+"/", nil); text != "fine" {
		t.Errorf("a delayed request: %d %q", status, text)
	}

	upload, out := io.Pipe()
	time.AfterFunc(3*timeout, func() { out.Close() })
	response, err := w.client(false).Post("http://"+web.address()+"/", "", upload)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		t.Errorf("a slow upload: %d", response.StatusCode)
	}

	conn, err := w.dial(t.Context(), web.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: web\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\n")
	time.Sleep(3 * timeout) // nothing may happen in this time: there is nothing else to wait for
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(conn, "still there?")
	var all []byte
	for part := make([]byte, 1024); err == nil && !strings.HasSuffix(string(all), "still there?"); {
		var n int
		n, err = conn.Read(part)
		all = append(all, part[:n]...)
	}
	if err != nil || !strings.HasPrefix(string(all), "HTTP/1.1 101") {
		t.Errorf("a WebSocket: %q, %v", all, err)
	}
}

// socket switches a connection to a protocol that answers every byte.
func socket(rw http.ResponseWriter) {
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		return
	}
	defer conn.Close()
	fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	_, _ = io.Copy(conn, buffered)
}

// TestBreakersByProtocol: each breaker refuses what is above it and nothing else, tells so, and counts it where users look.
func TestBreakersByProtocol(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	arrived := make(chan struct{}, 1)
	server := w.serve(t, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		select {
		case arrived <- struct{}{}:
		default:
		}
		time.Sleep(time.Second)
	}))
	limited := func(name string, protocol label.Protocol, limits label.Limits) *service {
		s := newService(name, protocol, server)
		s.Settings.Limits = limits
		return s
	}
	const at = 20
	tests := []struct {
		service *service
		served  int // of so many at once
		counter string
	}{
		{limited("http-pending", label.HTTP, label.Limits{Connections: 1, Pending: 1}), 2, "upstream_rq_pending_overflow"},
		{limited("http-requests", label.HTTP, label.Limits{Requests: 3}), 3, "upstream_rq_active_overflow"},
		{limited("http2-requests", label.HTTP2, label.Limits{Requests: 3}), 3, "upstream_rq_active_overflow"},
		{limited("tcp-connections", label.TCP, label.Limits{Connections: 4}), 4, "upstream_cx_overflow"},
		{limited("http-unlimited", label.HTTP, label.Limits{}), at, ""},
	}
	for _, test := range tests {
		c.publish(t, open(t, test.service))
	}
	s := startSidecar(t, w, c)
	for _, test := range tests {
		var (
			requests sync.WaitGroup
			served   atomic.Int64
		)
		for i := range at {
			if i == 1 {
				wait(t, arrived, test.service.Owner.Name+": the first request") // which until then is pending itself
			}
			requests.Go(func() {
				status, text, err := w.get(test.service.address())
				switch {
				case err == nil && status == http.StatusOK:
					served.Add(1)
				case test.service.Protocol != label.TCP && !strings.Contains(text, "overflow"):
					t.Errorf("%s: %d %q, %v", test.service.Owner.Name, status, text, err)
				}
			})
		}
		requests.Wait()
		wait(t, arrived, test.service.Owner.Name+": another request")
		if got := int(served.Load()); got != test.served {
			t.Errorf("%s: %d of %d were served, want %d", test.service.Owner.Name, got, at, test.served)
		}
		if test.counter == "" {
			continue
		}
		text, err := s.ask("/stats?filter=" + test.service.Owner.Name + ".*" + test.counter)
		if want := strconv.Itoa(at - test.served); err != nil || !strings.HasSuffix(strings.TrimSpace(text), ": "+want) {
			t.Errorf("%s: counted %q, want %s; %v", test.service.Owner.Name, text, want, err)
		}
	}
}
