package xds

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// collectorPatience is how long Envoy tries to connect to a collector; for an answer it waits longer.
const collectorPatience = time.Second

// TestDeadCollector: a collector that is gone, silent or unknown holds back neither a configuration nor a pod's start nor
// a request.
func TestDeadCollector(t *testing.T) {
	const requests = 4000
	for _, kind := range []envoy.CollectorKind{envoy.Zipkin, envoy.OTLP} {
		for _, death := range []string{"gone", "silent", "unknown"} {
			t.Run(string(kind)+" "+death, func(t *testing.T) {
				w := newWorld(t)
				c, app := startControl(t, w), w.application(t)
				alive, dead := w.zipkin(t), w.dead(t, death)
				if kind == envoy.OTLP {
					alive = w.otlp(t)
				}
				m := traceTo(t, c, kind, alive.address)
				web := newService("web", label.HTTP, app.port)
				m.opens(t, web)
				running := startSidecar(t, w, c)
				w.many(t, web.address(), 1000)
				untraced := w.many(t, web.address(), requests)
				m.opens(t, web.traced(100))
				w.many(t, web.address(), 1000)
				before := w.many(t, web.address(), requests)
				m = traceTo(t, c, kind, dead)
				applied := m.opens(t, web)
				if applied.Acknowledged != 1 || applied.Took > time.Second {
					t.Errorf("the other collector is known after %v: %+v", applied.Took, applied)
				}
				w.many(t, web.address(), 1000)
				after := w.many(t, web.address(), requests)
				median, late, slowest := requests/2, requests*99/100, requests-1
				for name, took := range map[string][]time.Duration{"untraced": untraced, "alive": before, "dead": after} {
					t.Logf("%s: p50 %v, p99 %v, slowest %v", name, took[median], took[late], took[slowest])
				}
				if after[median] > 2*before[median] || after[slowest] > collectorPatience/2 {
					t.Error("requests are slower")
				}
				if kind == envoy.Zipkin && app.traced.Load() < requests {
					t.Errorf("only %d requests were traced", app.traced.Load())
				}
				if lines := running.complaints(); len(lines) > 0 {
					t.Errorf("Envoy complains:\n%s", strings.Join(lines, "\n"))
				}
				running.end()

				began := time.Now()
				startSidecar(t, w, c)
				if took := time.Since(began); took > 3*time.Second {
					t.Errorf("a new Envoy starts in %v", took)
				}
				if status, _, err := w.get(web.address()); err != nil || status != http.StatusOK {
					t.Errorf("a new Envoy answers %d, %v", status, err)
				}
			})
		}
	}
}

// dead is the address of a collector that is of no use.
func (w *world) dead(t *testing.T, death string) string {
	t.Helper()
	switch l := listen(t, w.outside, outsideAddress+":0"); death {
	case "gone":
		_ = l.Close()
		return l.Addr().String()
	case "silent": // connections are taken, and never answered
		go func() {
			for {
				connection, err := l.Accept()
				if err != nil {
					return
				}
				defer connection.Close() // when the listener ends
			}
		}()
		return l.Addr().String()
	default:
		return "collector.does-not-exist.invalid:9411"
	}
}
