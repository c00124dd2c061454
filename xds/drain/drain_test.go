package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestWhenItEnds: too soon, and requests fail; too late, and every rollout takes as long as some browser keeps a connection.
func TestWhenItEnds(t *testing.T) {
	d := Drainer{Delay: 10 * time.Second, Close: 20 * time.Second, Spare: 10 * time.Second, Quiet: 5 * time.Second, Timeout: time.Minute}
	const second = time.Second
	for _, test := range []struct {
		name string
		s    state
		want bool
	}{
		{"load balancers have not noticed yet", state{open{}, 9 * second, 9 * second}, false},
		{"nothing is left", state{open{}, 10 * second, 0}, true},
		{"a connection has not had its last answer", state{open{connections: 1}, 19 * second, 10 * second}, false},
		{"a connection is silent, and may speak", state{open{connections: 1}, 29 * second, 20 * second}, false},
		{"a connection was used until now, others may be", state{open{connections: 1}, 30 * second, 4 * second}, false},
		{"a connection is silent for good", state{open{connections: 1}, 30 * second, 5 * second}, true},
		{"the last one is gone", state{open{}, 31 * second, 0}, true},
		{"a download goes on", state{open{connections: 2, requests: 1}, 59 * second, 50 * second}, false},
		{"a download goes on for too long", state{open{connections: 2, requests: 1}, time.Minute, 50 * second}, true},
	} {
		if got := d.done(test.s); got != test.want {
			t.Errorf("%s: ends %t, want %t", test.name, got, test.want)
		}
	}
	if d.Delay = 2 * time.Minute; !d.done(state{passed: time.Minute}) {
		t.Error("it would be killed")
	}
}

// An admin interface that has some connections, fewer each time that it is asked.
type admin struct {
	mu          sync.Mutex
	connections int
	asked       []string
	stats       string
	// trouble is what happens instead of an answer, each time that it is asked.
	trouble []func(http.ResponseWriter)
}

func (a *admin) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r.Method+" "+r.URL.String())
	if len(a.trouble) > 0 {
		instead := a.trouble[0]
		a.trouble = a.trouble[1:]
		if instead != nil {
			instead(w)
			return
		}
	}
	if r.URL.Path == "/stats" {
		fmt.Fprintf(w, a.stats, a.connections)
		a.connections = max(a.connections-1, 0)
	}
}

const stats = "http.stats.downstream_cx_active: 1\nhttp.traffic-ingress.downstream_cx_active: %d\nhttp.traffic-ingress.downstream_rq_active: 0\n"

// serve runs the interface at a socket.
func (a *admin) serve(t *testing.T) Drainer {
	t.Helper()
	folder, err := os.MkdirTemp("", "drain") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "admin.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: a, ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return Drainer{
		Socket: socket, StatPrefix: "traffic-ingress", Close: time.Minute, Timeout: time.Minute, Interval: time.Millisecond, Silent: filepath.Join(folder, "silent"),
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

// TestRun: it drains once, and waits for the last connection.
func TestRun(t *testing.T) {
	a := &admin{connections: 3, stats: stats}
	if err := a.serve(t).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []string{"POST /drain_listeners?graceful&skip_exit"}
	for range 4 {
		want = append(want, "GET /stats?filter="+url.QueryEscape(`^http\.traffic-ingress\.downstream_(cx|rq)_active$`))
	}
	if !slices.Equal(a.asked, want) {
		t.Errorf("asked %q, want %q", a.asked, want)
	}
}

// TestTrouble: what cannot be asked is not waited for, and the reason is told.
func TestTrouble(t *testing.T) {
	if err := (Drainer{Socket: "/nowhere", Logger: slog.Default()}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "begin to drain") {
		t.Errorf("without Envoy: %v", err)
	}
	a := &admin{stats: "http.other.downstream_cx_active: %d\n"}
	if err := a.serve(t).Run(t.Context()); err == nil || !strings.Contains(err.Error(), "statistic http.traffic-ingress.") {
		t.Errorf("a missing statistic counts as nothing: %v", err)
	}
	a = &admin{connections: 1 << 30, stats: stats}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := a.serve(t).Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("after its context ended: %v", err)
	}
}

// TestHiccups: an Envoy that is busy for a moment still has requests in flight, which nobody may cut for that.
func TestHiccups(t *testing.T) {
	refuses := func(w http.ResponseWriter) { w.WriteHeader(http.StatusServiceUnavailable) }
	breaks := func(http.ResponseWriter) { panic(http.ErrAbortHandler) } // net/http's way to break a connection
	half := func(w http.ResponseWriter) { w.Header().Set("Content-Length", "100"); fmt.Fprint(w, "http.") }
	a := &admin{connections: 3, stats: stats, trouble: []func(http.ResponseWriter){refuses, breaks, nil, nil, breaks, half, refuses, nil}}
	if err := a.serve(t).Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if a.connections != 0 || len(a.asked) != 10 {
		t.Errorf("it ended with %d connections, having asked %q", a.connections, a.asked)
	}
	d := (&admin{stats: stats, trouble: slices.Repeat([]func(http.ResponseWriter){nil, breaks}, 1<<16)[1:]}).serve(t)
	d.Timeout = 50 * time.Millisecond
	if began, err := time.Now(), d.Run(t.Context()); err != nil && !strings.Contains(err.Error(), "begin to drain") || time.Since(began) > 5*time.Second {
		t.Errorf("without an answer it ended after %s: %v", time.Since(began), err)
	}
}

// TestGone: an Envoy that ends while it drains has nothing left to wait for, and is not waited for.
func TestGone(t *testing.T) {
	a := &admin{connections: 1 << 30, stats: stats}
	d := a.serve(t)
	a.trouble = []func(http.ResponseWriter){nil, nil, func(w http.ResponseWriter) {
		os.Remove(d.Socket)
		w.WriteHeader(http.StatusServiceUnavailable)
	}}
	if err := d.Run(t.Context()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after its end: %v", err)
	}
}

// TestSilent: Envoy is told to end silent connections once they had their time, and not before.
func TestSilent(t *testing.T) {
	a := &admin{connections: 1, stats: stats}
	d := a.serve(t)
	d.Close, d.Spare, d.Quiet = 30*time.Millisecond, 20*time.Millisecond, time.Minute
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	var told time.Duration
	began := time.Now()
	var looks func(http.ResponseWriter)
	looks = func(w http.ResponseWriter) {
		text, err := os.ReadFile(d.Silent)
		switch {
		case err != nil:
			t.Error(err)
		case string(text) == "1":
			told = time.Since(began)
			fmt.Fprintf(w, a.stats, 0)
			return
		}
		a.trouble = append(a.trouble, looks)
		fmt.Fprintf(w, a.stats, 1)
	}
	a.trouble = []func(http.ResponseWriter){nil, looks}
	if err := d.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if told < d.Close+d.Spare {
		t.Errorf("they are ended after %s, want at least %s", told, d.Close+d.Spare)
	}
}
