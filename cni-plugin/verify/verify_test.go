package verify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A family that is not dialled could be unmanaged; one that the pod lacks would
// keep it from starting.
func TestTargets(t *testing.T) {
	v4, v6 := Target{"IPv4", "198.51.100.100:80"}, Target{"IPv6", "[2001:db8::c633:6464]:80"}
	for podIPs, want := range map[string][]Target{
		"10.0.0.1":                {v4},
		"fd00::1":                 {v6},
		"10.0.0.1,fd00::1":        {v4, v6},
		"fd00::1, 10.0.0.1":       {v4, v6},
		"::ffff:10.0.0.1":         {v4},
		"10.0.0.1,10.1.0.1":       {v4},
		"":                        nil,
		"10.0.0.1,":               nil,
		"10.0.0.300":              nil,
		"pod-1.example,10.0.0.1":  nil,
		"10.0.0.1/24":             nil,
		"10.0.0.1;fd00::1":        nil,
		"2001:db8::1,,2001:db8::": nil,
	} {
		got, err := Targets(podIPs)
		if (err == nil) != (want != nil) || !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %v, %v; want %v", podIPs, got, err, want)
		}
	}
}

// answering serves handler and returns it as a target.
func answering(t *testing.T, family string, handler http.HandlerFunc) Target {
	s := httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return Target{Family: family, Addr: strings.TrimPrefix(s.URL, "http://")}
}

// ready is a sidecar that has its configuration.
func ready(t *testing.T) string { return answering(t, "", says("LIVE")).Addr }

func says(id string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, id) }
}

// A redirected pod starts at once, and says so in one line.
func TestRedirected(t *testing.T) {
	var out strings.Builder
	v := Verifier{
		NodeID: "web-0.shop", Ready: ready(t), Timeout: time.Minute, Out: &out,
		Targets: []Target{answering(t, "IPv4", says("web-0.shop")), answering(t, "IPv6", says("web-0.shop"))},
	}
	if err := v.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); strings.Count(got, "\n") != 1 || !strings.HasPrefix(got, "outbound connections of web-0.shop reach its Envoy") {
		t.Errorf("printed %q", got)
	}
}

// Nothing but our own Envoy counts: not one that cuts the id, adds to it, is
// another pod's, redirects elsewhere or is a captive portal.
func TestOthersAnswer(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"another pod's Envoy": says("web-1.shop"),
		"id with newline":     says("web-0.shop\n"),
		"prefix of the id":    says("web-0"),
		"nothing":             says(""),
		"long page":           says(strings.Repeat("web-0.shop", 1000)),
		"not Envoy's 200": func(w http.ResponseWriter, r *http.Request) {
			http.Error(w, "blocked", http.StatusNotFound)
		},
		"redirection to the id": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/id" {
				io.WriteString(w, "web-0.shop")
				return
			}
			http.Redirect(w, r, "/id", http.StatusFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := Verifier{
				NodeID: "web-0.shop", Ready: ready(t), Timeout: 500 * time.Millisecond, Out: io.Discard,
				Targets: []Target{answering(t, "IPv4", handler)},
			}
			err := v.Run(context.Background())
			if err == nil || !strings.Contains(err.Error(), `not "web-0.shop"`) || !strings.Contains(err.Error(), "traffic-node") || len(err.Error()) > 1000 {
				t.Errorf("got %v", err)
			}
		})
	}
}

// One family that works does not excuse the other.
func TestOneFamilyMissing(t *testing.T) {
	closed := httptest.NewServer(nil)
	addr := strings.TrimPrefix(closed.URL, "http://")
	closed.Close()
	v := Verifier{
		NodeID: "web-0.shop", Ready: ready(t), Timeout: 500 * time.Millisecond, Out: io.Discard,
		Targets: []Target{answering(t, "IPv4", says("web-0.shop")), {"IPv6", addr}},
	}
	err := v.Run(context.Background())
	if err == nil || !strings.Contains(err.Error(), "an outbound IPv6 connection did not reach") {
		t.Errorf("got %v", err)
	}
}

// A pod that the agent repairs goes on by itself, after one line that says why
// it waits.
func TestWaitsForRepair(t *testing.T) {
	var requests atomic.Int32
	target := answering(t, "IPv4", func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) > 3 {
			io.WriteString(w, "web-0.shop")
		}
	})
	var out strings.Builder
	v := Verifier{NodeID: "web-0.shop", Ready: ready(t), Timeout: time.Minute, Out: &out, Targets: []Target{target}}
	if err := v.Run(context.Background()); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(out.String(), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "waiting up to 1m0s: an outbound IPv4 connection") {
		t.Errorf("printed %q", out.String())
	}
}

// While the control plane is away a new pod waits, for longer than a repair may
// take, and says for what.
func TestWaitsForEnvoy(t *testing.T) {
	var asked atomic.Int32
	envoy := answering(t, "", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ready" || asked.Add(1) < 8 {
			http.Error(w, "INITIALIZING", http.StatusServiceUnavailable)
		}
	})
	var out strings.Builder
	v := Verifier{
		NodeID: "web-0.shop", Ready: envoy.Addr, Timeout: 100 * time.Millisecond, Out: &out,
		Targets: []Target{answering(t, "IPv4", func(w http.ResponseWriter, _ *http.Request) {
			if asked.Load() < 8 {
				t.Error("dialled before the sidecar was ready")
			}
			io.WriteString(w, "web-0.shop")
		})},
	}
	if err := v.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	const want = "waiting for the configuration of this pod's Envoy, which comes from traffic-control: it says 503 \"INITIALIZING\"\n"
	if !strings.HasPrefix(out.String(), want) {
		t.Errorf("printed %q", &out)
	}
}

// An Envoy that is not there yet is waited for, until the pod is deleted.
func TestWaitsForEnvoyUntilStopped(t *testing.T) {
	closed := httptest.NewServer(nil)
	addr := strings.TrimPrefix(closed.URL, "http://")
	closed.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Verifier{NodeID: "web-0.shop", Ready: addr, Timeout: time.Minute, Out: io.Discard}.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "stopped while waiting for the sidecar to be ready") {
		t.Errorf("got %v", err)
	}
}

// A sidecar listens at the pod's first address.
func TestReadyAddr(t *testing.T) {
	for podIPs, want := range map[string]string{
		"10.0.0.1": "10.0.0.1:8900", "fd00::1,10.0.0.1": "[fd00::1]:8900", "": "", "x": "",
	} {
		if got, err := ReadyAddr(podIPs, 8900); got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", podIPs, got, err)
		}
	}
}

// A pod that is deleted while it waits goes at once.
func TestStops(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	target := answering(t, "IPv4", func(http.ResponseWriter, *http.Request) { cancel() })
	v := Verifier{NodeID: "web-0.shop", Ready: ready(t), Timeout: time.Hour, Out: io.Discard, Targets: []Target{target}}
	err := v.Run(ctx)
	if err == nil || !strings.Contains(err.Error(), "stopped while waiting") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func ExampleTargets() {
	targets, err := Targets("10.244.0.7,fd00:10:244::7")
	fmt.Println(targets, err)
	// Output: [{IPv4 198.51.100.100:80} {IPv6 [2001:db8::c633:6464]:80}] <nil>
}
