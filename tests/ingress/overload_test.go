package ingress

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
)

type object = map[string]any

// overload adjusts the chart's overload manager.
func (g *gateway) overload(adjust func(manager object, monitors map[string]object)) {
	g.adjustBootstrap = func(text string) string {
		var bootstrap object
		if err := json.Unmarshal([]byte(text), &bootstrap); err != nil {
			g.t.Fatal(err)
		}
		manager := bootstrap["overload_manager"].(object)
		manager["refresh_interval"] = "0.05s"
		monitors := map[string]object{}
		for _, m := range manager["resource_monitors"].([]any) {
			monitors[m.(object)["name"].(string)] = m.(object)["typed_config"].(object)
		}
		adjust(manager, monitors)
		changed, err := json.Marshal(bootstrap)
		if err != nil {
			g.t.Fatal(err)
		}
		return string(changed)
	}
}

// heapOf makes the test say how full Envoy's memory is, in a file that it reads.
func (g *gateway) heapOf() (fill func(share float64)) {
	g.overload(func(_ object, monitors map[string]object) {
		heap := monitors["envoy.resource_monitors.fixed_heap"]
		delete(heap, "max_heap_size_bytes")
		heap["@type"] = "type.googleapis.com/envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig"
		heap["filename"] = filepath.Join(g.folder, "heap")
	})
	return func(share float64) {
		g.t.Helper()
		next := filepath.Join(g.folder, "next")
		if err := os.WriteFile(next, []byte(strconv.FormatFloat(share, 'f', -1, 64)), 0o600); err != nil {
			g.t.Fatal(err)
		}
		if err := os.Rename(next, filepath.Join(g.folder, "heap")); err != nil {
			g.t.Fatal(err)
		}
	}
}

// action is the state of an overload action in per cent, by what Prometheus gets.
func (g *gateway) action(name string) (string, error) {
	return g.metric(`envoy_overload_envoy_overload_actions_` + name + `_scale_percent\{\}`)
}

// metric is the value of one metric of Prometheus.
func (g *gateway) metric(name string) (string, error) {
	client := g.client(nil)
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + gatewayAddress + ":" + statsPort + "/stats/prometheus")
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	match := regexp.MustCompile(`(?m)^` + name + ` (\d+)$`).FindSubmatch(text)
	if match == nil {
		return "", fmt.Errorf("no %s in\n%s", name, regexp.MustCompile(`(?m)^envoy_(overload.*_percent|listener_downstream).*`).FindAll(text, -1))
	}
	return string(match[1]), nil
}

// waitFor waits for the states of actions.
func (g *gateway) waitFor(states map[string]string) {
	g.t.Helper()
	for name, want := range states {
		g.eventually("the overload is noticed", func() error {
			got, err := g.action(name)
			if err == nil && got != want {
				err = fmt.Errorf("%s is at %s per cent, want %s", name, got, want)
			}
			return err
		})
	}
	if got := g.status("/ready"); got != http.StatusOK {
		g.t.Errorf("the kubelet is told %d", got)
	}
}

// hoard sends so much of a body, which the gateway keeps to try it again, and leaves it at that. What becomes of the stream
// follows.
func (g *gateway) hoard(url string, size int) <-chan error {
	g.t.Helper()
	client := g.client(nil)
	transport := client.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetUnencryptedHTTP2(true)
	body, writer := io.Pipe()
	g.t.Cleanup(func() {
		writer.Close()
		client.CloseIdleConnections()
	})
	ended := make(chan error, 1)
	go func() {
		response, err := client.Post(url, "text/plain", body)
		if err == nil {
			response.Body.Close()
		}
		ended <- err
	}()
	if _, err := writer.Write(make([]byte, size)); err != nil {
		g.t.Fatal(err)
	}
	return ended
}

// TestOverload: as the memory fills, the gateway gives up first what nobody misses, and at last what holds most of it; what it
// is doing goes on, the kubelet and Prometheus are answered all the while, and all is well when there is room again.
func TestOverload(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	fill := g.heapOf()
	g.complaint = "resetting 1 streams"
	g.run()
	g.service("web", "traffic.retries.5xx", "2")
	begun, finish := make(chan struct{}), make(chan struct{})
	g.serveWith("slow", func(w http.ResponseWriter, r *http.Request) {
		close(begun)
		<-finish
		mirror("slow")(w, r)
	})
	g.apply(rules("web", 1, "web|P|/|web", "slow|P|/|slow"))

	expect := func(share, want string) {
		t.Helper()
		g.eventually("with "+share+" of the memory in use", func() error {
			got := "nothing"
			client := g.client(nil)
			defer client.CloseIdleConnections()
			if response, err := client.Get("http://web/"); err == nil {
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				got = fmt.Sprint(response.StatusCode, map[bool]string{true: " last"}[response.Close])
			}
			if got != want {
				return fmt.Errorf("a request gets %s, want %s", got, want)
			}
			return nil
		})
	}
	answered := make(chan string, 1)
	go func() {
		a, err := ask(g.client(nil), "http://slow/")
		answered <- fmt.Sprintf("%s %v", a.outcome(), err)
	}()
	<-begun
	hoarder := g.hoard("http://web/", 960<<10)

	fill(0.84)
	g.waitFor(map[string]string{"shrink_heap": "0", "reduce_timeouts": "0"})
	expect("84 %", "200")
	fill(0.9)
	g.waitFor(map[string]string{"shrink_heap": "100", "reduce_timeouts": "50", "disable_http_keepalive": "100", "stop_accepting_requests": "0"})
	expect("90 %", "200 last")
	fill(0.96)
	g.waitFor(map[string]string{"stop_accepting_requests": "100", "reduce_timeouts": "100", "reject_incoming_connections": "0"})
	expect("96 %", "503 last")
	fill(1)
	g.waitFor(map[string]string{"reject_incoming_connections": "100", "reset_high_memory_stream": "100"})
	expect("all", "nothing")
	close(finish)
	if err := <-hoarder; err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
		t.Errorf("who holds a megabyte is not reset: %v", err)
	}
	if got := <-answered; got != "slow <nil>" {
		t.Errorf("a request that had begun ends with %s", got)
	}
	fill(0.5)
	g.waitFor(map[string]string{"shrink_heap": "0", "reject_incoming_connections": "0", "stop_accepting_requests": "0", "disable_http_keepalive": "0"})
	expect("half", "200")
}

// TestFullMemory: Envoy knows the limit of its container. With one that is too small it serves nobody. (Nor need it answer the
// kubelet, as in TestOverload: a listener that comes when connections are refused already may refuse, too, until that is over.)
func TestFullMemory(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.overload(func(_ object, monitors map[string]object) {
		heap := monitors["envoy.resource_monitors.fixed_heap"]
		if got := fmt.Sprint(heap["max_heap_size_bytes"]); got != strconv.Itoa(memoryLimit) {
			t.Errorf("its memory is %s", got)
		}
		heap["max_heap_size_bytes"] = 1 << 20
	})
	g.run()
	g.service("web")
	g.apply(rules("web", 1, "web|P|/|web"))
	g.eventually("nobody is served", func() error {
		client := g.client(nil)
		defer client.CloseIdleConnections()
		if a, err := ask(client, "http://web/"); err == nil {
			return fmt.Errorf("a request gets %s", a.outcome())
		}
		return nil
	})
}

// TestConnectionLimit: connections beyond the limit are closed at once, those that are there stay, and the kubelet and Prometheus
// are answered.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	const limit = "max_active_downstream_connections"
	g.overload(func(_ object, monitors map[string]object) {
		monitor := monitors["envoy.resource_monitors.global_downstream_max_connections"]
		if got := fmt.Sprint(monitor[limit]); got != "50000" {
			t.Errorf("the limit is %s", got)
		}
		monitor[limit] = 2
	})
	g.run()
	g.service("web")
	g.apply(rules("web", 1, "web|P|/|web"))
	var kept []*http.Client
	for range 2 {
		client := g.client(nil)
		defer client.CloseIdleConnections()
		g.eventually("a connection is taken", func() error {
			_, err := ask(client, "http://web/")
			return err
		})
		kept = append(kept, client)
	}
	if a, err := ask(g.client(nil), "http://web/"); err == nil {
		t.Errorf("one more gets %s", a.outcome())
	}
	g.eventually("Prometheus is told", func() error {
		refused, err := g.metric(`envoy_listener_downstream_global_cx_overflow\{envoy_listener_address="traffic-ingress"\}`)
		if err == nil && refused == "0" {
			err = errors.New("no connection is counted")
		}
		return err
	})
	for range 3 {
		if got := g.status("/ready"); got != http.StatusOK {
			t.Errorf("the kubelet is told %d", got)
		}
	}
	for _, client := range kept {
		if a, err := ask(client, "http://web/"); err != nil || a.outcome() != "web" {
			t.Errorf("one that was there gets %s: %v", a.outcome(), err)
		}
	}
	kept[0].CloseIdleConnections()
	g.eventually("there is room again", func() error {
		client := g.client(nil)
		defer client.CloseIdleConnections()
		_, err := ask(client, "http://web/")
		return err
	})
}

// TestSilentClients: whoever says nothing, or begins and goes no further, is gone after 10 seconds, before and behind a load balancer,
// and whoever is answered and says nothing more after the idle time, and the 6 seconds that Envoy takes for it.
func TestSilentClients(t *testing.T) {
	t.Parallel()
	idle := func(proxy bool) *gateway {
		return start(t, func(_ *ingress.Config, c *envoy.GatewayConfig) { c.IdleTimeout, c.ProxyProtocol = time.Second, proxy })
	}
	direct, behind := idle(false), idle(true)
	direct.service("web")
	direct.certificate("a", "a.example")
	direct.apply(secured(rules("web", 1, "web|P|/|web", "a.example|P|/|web"), "a|a.example"))
	behind.service("web")
	behind.apply(rules("web", 1, "web|P|/|web"))
	const (
		line    = "PROXY TCP4 203.0.113.9 10.0.0.1 4711 80\r\n"
		request = "GET / HTTP/1.1\r\nHost: web\r\n\r\n"
	)
	var silent sync.WaitGroup
	for name, test := range map[string]struct {
		at    *gateway
		port  int
		says  string
		after time.Duration
	}{
		"nothing":                  {direct, 8080, "", 10 * time.Second},
		"half a line":              {direct, 8080, "GET / HT", 10 * time.Second},
		"half a preface":           {direct, 8080, "PRI * HT", 10 * time.Second},
		"nothing over TLS":         {direct, 8443, "", 10 * time.Second},
		"nothing of a proxy":       {behind, 8080, "", 10 * time.Second},
		"a proxy's line":           {behind, 8080, line, 10 * time.Second},
		"a request":                {direct, 8080, request, 7 * time.Second},
		"a request behind a proxy": {behind, 8080, line + request, 7 * time.Second},
		"a preface":                {direct, 8080, http2.ClientPreface, 7 * time.Second},
	} {
		silent.Go(func() {
			c, err := test.at.dial(t.Context(), fmt.Sprintf("%s:%d", gatewayAddress, test.port))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				return
			}
			defer c.Close()
			began := time.Now()
			_ = c.SetDeadline(began.Add(patience))
			_, _ = io.WriteString(c, test.says)
			text, err := io.ReadAll(c) // ends by a reset where half of something is not read
			if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || took < test.after-time.Second || took > test.after+2*time.Second {
				t.Errorf("%s: it is closed after %v with %v, having got %q", name, took, err, text)
			}
		})
	}
	silent.Wait()
}
