package xds

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// A tracedMesh is a control plane that knows a collector.
type tracedMesh struct {
	*control
	snapshot *envoy.Snapshot
}

func traceTo(t *testing.T, c *control, kind envoy.CollectorKind, address string) *tracedMesh {
	t.Helper()
	collector := envoy.Collector{Kind: kind}
	if err := collector.Address.Set(address); err != nil {
		t.Fatal(err)
	}
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogOff, Collector: collector})
	if err != nil {
		t.Fatal(err)
	}
	return &tracedMesh{control: c, snapshot: envoy.NewSnapshot(translator)}
}

// opens publishes the state of services.
func (m *tracedMesh) opens(t *testing.T, services ...*service) serve.Applied {
	t.Helper()
	var changes []mesh.PortChange
	for _, s := range services {
		changes = append(changes, mesh.PortChange{Owner: s.Owner, Ports: []mesh.Port{s.Port}})
	}
	update, failures := m.snapshot.Apply(changes)
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	return m.publish(t, update)
}

func (s *service) traced(percent float64) *service {
	share := label.Percentage(percent * float64(label.Hundred) / 100)
	s.Settings.Tracing = label.Tracing{Enabled: true, Sampling: &share}
	return s
}

// An application answers with the headers that it got, and counts the requests that it is told to trace.
type application struct {
	port   uint16
	traced atomic.Int64
}

func (w *world) application(t *testing.T) *application {
	t.Helper()
	l := listen(t, w.outside, outsideAddress+":0")
	a := &application{port: netip.MustParseAddrPort(l.Addr().String()).Port()}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-B3-Sampled") == "1" {
			a.traced.Add(1)
		}
		_ = json.NewEncoder(rw).Encode(r.Header)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return a
}

// headers returns what the application got of a request with these.
func (w *world) headers(t *testing.T, address string, sent ...string) (got http.Header) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/path", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Host = "web:80"
	for i := 0; i < len(sent); i += 2 {
		request.Header.Set(sent[i], sent[i+1])
	}
	response, err := w.client(false).Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&got); err != nil {
		t.Fatalf("status %d: %v", response.StatusCode, err)
	}
	return got
}

var (
	traceHeader = regexp.MustCompile(`(?i)b3|trace`)
	traceParent = regexp.MustCompile(`^00-([0-9a-f]{32})-([0-9a-f]{16})-01$`)
)

// TestTracing: with the label the application gets both kinds of trace headers, a request that is in a trace stays in it,
// and the collector gets its span under the pod's name; without it nothing of that, and other listeners never notice.
func TestTracing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, zipkin, app := startControl(t, w), w.zipkin(t), w.application(t)
	m := traceTo(t, c, envoy.Zipkin, zipkin.address)
	web, other := newService("web", label.HTTP, app.port), newService("other", label.HTTP, app.port)
	m.opens(t, web, other)
	s := startSidecar(t, w, c)
	untraced := func(when string, address string) {
		t.Helper()
		for name, values := range w.headers(t, address) {
			if traceHeader.MatchString(name) {
				t.Errorf("%s the application gets %s: %v", when, name, values)
			}
		}
	}
	untraced("without the label", web.address())

	before := s.counters(t)
	m.opens(t, web.traced(100))
	after := s.counters(t)
	for name, want := range map[string]int{
		"listener_manager.lds.update_success": 1, "listener_manager.listener_modified": 1, "cluster_manager.cluster_added": 1,
	} {
		if got := after[name] - before[name]; got != want {
			t.Errorf("switched on: %s went up by %d, want %d", name, got, want)
		}
	}
	untraced("beside a traced port", other.address())

	t.Run("a trace begins", func(t *testing.T) {
		got := w.headers(t, web.address())
		id := got.Get("X-B3-Traceid")
		parent := traceParent.FindStringSubmatch(got.Get("Traceparent"))
		if len(id) != 32 || got.Get("X-B3-Sampled") != "1" || len(parent) != 3 || parent[1] != id || parent[2] != got.Get("X-B3-Spanid") {
			t.Errorf("the application got %v", got)
		}
		span := zipkin.wait(t, id)
		if span.ID != got.Get("X-B3-Spanid") || span.Service != "client-0.default" || span.Kind != "CLIENT" || span.ParentID != "" ||
			!strings.Contains(span.Name, "web:80") || span.Tags["http.status_code"] != "200" || span.Tags["upstream_cluster"] != "80|default|web.outbound" {
			t.Errorf("the collector got %+v", span)
		}
	})
	const trace, parent = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	t.Run("a trace goes on by B3", func(t *testing.T) {
		m.opens(t, web.traced(0)) // whoever began it decided
		got := w.headers(t, web.address(), "X-B3-TraceId", trace, "X-B3-SpanId", parent, "X-B3-Sampled", "1")
		if got.Get("X-B3-Traceid") != trace || got.Get("X-B3-Parentspanid") != parent || got.Get("X-B3-Spanid") == parent {
			t.Errorf("the application got %v", got)
		}
		if span := zipkin.wait(t, trace); span.ParentID != parent || span.ID != got.Get("X-B3-Spanid") {
			t.Errorf("the collector got %+v", span)
		}
	})
	t.Run("a trace goes on by W3C", func(t *testing.T) {
		id := strings.Repeat("5", 32)
		got := w.headers(t, web.address(), "Traceparent", "00-"+id+"-"+parent+"-01")
		if forwarded := traceParent.FindStringSubmatch(got.Get("Traceparent")); len(forwarded) != 3 || forwarded[1] != id || got.Get("X-B3-Traceid") != id {
			t.Errorf("the application got %v", got)
		}
		if span := zipkin.wait(t, id); span.ParentID != parent {
			t.Errorf("the collector got %+v", span)
		}
	})

	before = s.counters(t)
	m.opens(t, web.traced(12.5))
	if after = s.counters(t); after["listener_manager.lds.update_success"] != before["listener_manager.lds.update_success"] {
		t.Error("another sampling touches a listener")
	}
	web.Settings.Tracing = label.Tracing{}
	m.opens(t, web)
	untraced("switched off", web.address())
	eventually(t, "the collector is gone when nothing is traced", func() error {
		if active, _ := s.dump(t); active["cluster traffic-tracing"] != "" {
			return errors.New("it is still there")
		}
		return nil
	})
	if rejected := c.rejected(); len(rejected) > 0 {
		t.Errorf("rejected: %v", rejected)
	}
	if lines := s.complaints(); len(lines) > 0 {
		t.Errorf("Envoy complains:\n%s", strings.Join(lines, "\n"))
	}
}

// TestSampling counts the traces of many requests. The bounds are 4.5 standard deviations: a right system is outside of
// one of them once in 100,000 runs.
func TestSampling(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, zipkin, app := startControl(t, w), w.zipkin(t), w.application(t)
	m := traceTo(t, c, envoy.Zipkin, zipkin.address)
	web := newService("web", label.HTTP, app.port)
	m.opens(t, web.traced(100))
	startSidecar(t, w, c)
	tests := []struct {
		percent  float64
		requests int
	}{{0, 500}, {50, 2000}, {0.5, 20000}, {100, 500}}
	for _, test := range tests {
		m.opens(t, web.traced(test.percent))
		traced, collected := app.traced.Load(), len(zipkin.all())
		w.many(t, web.address(), test.requests)
		got := app.traced.Load() - traced
		mean := float64(test.requests) * test.percent / 100
		bound := 4.5 * math.Sqrt(mean*(1-test.percent/100))
		t.Logf("%v %%: %d of %d requests are traced, want %.0f +- %.0f", test.percent, got, test.requests, mean, bound)
		if math.Abs(float64(got)-mean) > bound {
			t.Errorf("%v %%: %d of %d requests are traced, want %.0f +- %.0f", test.percent, got, test.requests, mean, bound)
		}
		eventually(t, fmt.Sprintf("%d spans", got), func() error {
			if n := len(zipkin.all()) - collected; n != int(got) {
				return fmt.Errorf("the collector has %d", n)
			}
			return nil
		})
	}
}

// many sends requests over a few connections, and returns how long each took, sorted.
func (w *world) many(t *testing.T, address string, requests int) []time.Duration {
	t.Helper()
	const clients = 4
	took := make([]time.Duration, requests)
	var running sync.WaitGroup
	for n := range clients {
		running.Go(func() {
			client := w.client(true)
			client.Timeout = 5 * time.Second
			for i := n; i < requests; i += clients {
				began := time.Now()
				response, err := client.Get("http://" + address + "/")
				if err == nil && response.StatusCode != http.StatusOK {
					err = fmt.Errorf("status %d", response.StatusCode)
				}
				if err != nil {
					t.Error(err)
					return
				}
				var headers http.Header
				_ = json.NewDecoder(response.Body).Decode(&headers)
				_ = response.Body.Close()
				took[i] = time.Since(began)
			}
			client.CloseIdleConnections()
		})
	}
	running.Wait()
	slices.Sort(took)
	return took
}

// TestOpenTelemetry: a collector of the other kind gets the same request under the same name.
func TestOpenTelemetry(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c, collector, app := startControl(t, w), w.otlp(t), w.application(t)
	m := traceTo(t, c, envoy.OTLP, collector.address)
	web := newService("web", label.HTTP, app.port)
	m.opens(t, web.traced(100))
	s := startSidecar(t, w, c)
	const trace, parent = "463ac35c9f6413ad48485a3953bb6124", "a2fb4a1d1a96d312"
	got := w.headers(t, web.address(), "Traceparent", "00-"+trace+"-"+parent+"-01")
	if forwarded := traceParent.FindStringSubmatch(got.Get("Traceparent")); len(forwarded) != 3 || forwarded[1] != trace {
		t.Errorf("the application got %v", got)
	}
	span := collector.wait(t, trace)
	if span.ParentID != parent || span.Service != "client-0.default" || span.Kind != "CLIENT" || !strings.Contains(span.Name, "web:80") {
		t.Errorf("the collector got %+v", span)
	}
	if lines := s.complaints(); len(lines) > 0 {
		t.Errorf("Envoy complains:\n%s", strings.Join(lines, "\n"))
	}
}
