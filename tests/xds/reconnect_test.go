package xds

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// TestReconnectInTheMiddle: the connection breaks again and again at any byte, while the configuration changes. In the end
// Envoy has what is published, all of it in use.
func TestReconnectInTheMiddle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := startControl(t, w)
	backend := w.backend(t, "a")
	var services []*service
	for i := range 30 {
		services = append(services, newService(fmt.Sprint("service-", i), label.HTTP, backend))
	}
	c.publish(t, open(t, services...))
	s := startSidecar(t, w, c)
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 8 {
		c.cable.cutAfter(4000 + random.Int64N(15000)) // the handshake takes about 1500
		c.cable.cut()
		for range 4 {
			service := services[random.IntN(len(services))]
			service.Endpoints[0].Weight = uint32(1 + random.IntN(100))
			c.Publish(serve.Update{Set: retimed(t, service, round)}, nil)
		}
		cuts := c.cable.count()
		eventually(t, "the connection breaks again", func() error {
			c.Publish(serve.Update{Set: retimed(t, services[random.IntN(len(services))], random.IntN(1000))}, nil)
			if c.cable.count() == cuts {
				return fmt.Errorf("%d times so far", cuts)
			}
			return nil
		})
	}
	c.cable.cutAfter(0)
	c.cable.cut()
	var state serve.Update
	for _, service := range services {
		state.Set = append(state.Set, retimed(t, service, 1001)...)
	}
	c.publish(t, state)
	s.has(t, state.Set)
	if rejected := c.rejected(); len(rejected) > 0 {
		t.Errorf("rejected: %v", rejected)
	}
}

// TestAControlPlaneThatStarts: it knows nothing yet, and takes nothing away. When it has published what was there before,
// nothing is sent again but endpoints, whose clusters may have been warming.
func TestAControlPlaneThatStarts(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	web, db := newService("web", label.HTTP, w.backend(t, "a")), newService("db", label.TCP, w.echo(t))
	state := open(t, web, db)
	c.publish(t, state)
	s := startSidecar(t, w, c)
	s.has(t, state.Set)
	connections := []held{w.hold(t, db.address()), w.holdRequest(t, web.address())}
	load := w.load(t, web.address())
	before := s.counters(t)

	c.stop()
	c.start(t)
	eventually(t, "Envoy is back", func() error {
		if n := c.gauge(t, "traffic_control_connected_proxies"); n != 1 {
			return fmt.Errorf("%v proxies are connected", n)
		}
		return nil
	})
	s.has(t, state.Set)
	c.Publish(state, nil)
	eventually(t, "endpoints are sent", func() error {
		if n := c.metric(t, "traffic_control_pushed_resources_total", "endpoint"); n != 2 {
			return fmt.Errorf("%v are", n)
		}
		return nil
	})
	if a := c.publish(t, open(t, web, db, newService("new", label.HTTP))); a.Acknowledged != 1 {
		t.Errorf("a change after the restart: %+v", a)
	}
	after := s.counters(t)
	for name, want := range map[string]int{
		"cluster_manager.cluster_added": 1, "cluster_manager.cluster_modified": 0, "cluster_manager.cluster_removed": 0,
		"listener_manager.listener_added": 1, "listener_manager.listener_modified": 0, "listener_manager.listener_removed": 0,
	} {
		if got := after[name] - before[name]; got != want {
			t.Errorf("%s went up by %d, want %d", name, got, want)
		}
	}
	for _, h := range connections {
		if err := h.ask(); err != nil {
			t.Errorf("%s: %v", h.name, err)
		}
	}
	load.wantNoFailure()
}
