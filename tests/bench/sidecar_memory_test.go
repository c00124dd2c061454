package bench

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
)

// BenchmarkSidecarMemory prints what a thousand open Services cost one Envoy: its memory above that of an Envoy with nothing
// open, and the series that Prometheus scrapes, while nobody calls them and after each was called.
func BenchmarkSidecarMemory(b *testing.B) {
	f := figures.New()
	w := newWorld(b)
	backends := w.serve(b)
	f.Goal("above an empty one MB", 60)
	f.Goal("series", 12000)
	for b.Loop() {
		for range *figures.Rounds {
			empty := serveOne(b, w, resources(b, 0, backends))
			rss, allocated := empty.settled(b)
			empty.stop()
			f.Add("empty: resident MB", rss)
			f.Add("empty: allocated MB", allocated)

			full := serveOne(b, w, resources(b, services, backends))
			full.has(b, services)
			rssFull, allocatedFull := full.settled(b)
			f.Add("resident MB", rssFull)
			f.Add("allocated MB", allocatedFull)
			f.Add("above an empty one MB", rssFull-rss)
			f.Add("allocated above an empty one MB", allocatedFull-allocated)
			full.series(b, f, "")

			w.callAll(b)
			rssCalled, allocatedCalled := full.settled(b)
			f.Add("all called: resident above an empty one MB", rssCalled-rss)
			f.Add("all called: allocated above an empty one MB", allocatedCalled-allocated)
			full.series(b, f, "all called: ")
			full.stop()
		}
	}
	f.Print(b)
}

// settled returns what is resident and what is allocated, in MB, once Envoy has given back what its start took.
func (s *sidecar) settled(b *testing.B) (resident, allocated float64) {
	b.Helper()
	time.Sleep(3 * time.Second)
	got, err := ask(s.admin, "http://admin/memory")
	if err != nil {
		b.Fatal(err)
	}
	var m struct{ Allocated string }
	if err := json.Unmarshal([]byte(got.body), &m); err != nil {
		b.Fatal(err)
	}
	bytes, err := strconv.ParseFloat(m.Allocated, 64)
	if err != nil {
		b.Fatal(err)
	}
	return memory(b, s.command.Process.Pid, "VmRSS"), bytes / 1e6
}

// has waits until so many listeners are at work, besides those of the bootstrap.
func (s *sidecar) has(b *testing.B, listeners int) {
	b.Helper()
	want := "listener_manager.total_listeners_active: " + strconv.Itoa(listeners+2)
	waitFor(b, want, func(context.Context) (bool, error) {
		got, err := ask(s.admin, "http://admin/stats?filter=listener_manager")
		return strings.Contains(got.body, want+"\n") && strings.Contains(got.body, "total_listeners_warming: 0\n"), err
	})
}

// series adds how many series, and how many bytes, Prometheus scrapes.
func (s *sidecar) series(b *testing.B, f *figures.Table, prefix string) {
	b.Helper()
	got, err := ask(s.admin, "http://admin/stats/prometheus")
	if err != nil {
		b.Fatal(err)
	}
	count := 0
	for line := range strings.Lines(got.body) {
		if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "#") {
			count++
		}
	}
	f.Add(prefix+"series", float64(count))
	f.Add(prefix+"scrape kB", float64(len(got.body))/1e3)
}

// callAll asks each Service once.
func (w *world) callAll(b *testing.B) {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: true}, Timeout: 5 * time.Second}
	for n := range services {
		if got, err := ask(client, "http://"+clusterIPOf(n)+"/"); err != nil || got.status != http.StatusOK {
			b.Fatalf("Service %d: %v, %v", n, got, err)
		}
	}
}
