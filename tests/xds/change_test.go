package xds

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// TestWhatAChangeSends: a weight is endpoints and nothing else, opening a port is that port's listener and no other, and
// no connection notices, neither of another port nor, when a weight changes, of the same.
func TestWhatAChangeSends(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	a, b := w.backend(t, "a"), w.backend(t, "b")
	web, db, other := newService("web", label.HTTP, a, b), newService("db", label.TCP, w.echo(t)), newService("other", label.HTTP, b)
	state := open(t, web, db, other)
	c.publish(t, state)
	s := startSidecar(t, w, c)
	s.has(t, state.Set)
	connections := []held{
		w.hold(t, db.address()), w.holdRequest(t, web.address()), w.holdRequest(t, other.address()),
	}
	unharmed := func(after string) {
		t.Helper()
		for _, h := range connections {
			if err := h.ask(); err != nil {
				t.Errorf("%s after %s: %v", h.name, after, err)
			}
		}
	}
	unharmed("nothing")

	before := s.received(t, c)
	web.Endpoints[1].Weight = 0
	web.Endpoints = web.Endpoints[:1]
	web.Endpoints[0].Weight = 7
	c.publish(t, open(t, web))
	s.has(t, open(t, web, db, other).Set)
	s.wantReceived(t, c, before, "a weight", map[string]int{"endpoint": 1})
	unharmed("a weight")
	for range 20 {
		if status, body, err := w.get(web.address()); body != "a" {
			t.Fatalf("after b is out: %d %q, %v", status, body, err)
		}
	}

	before = s.received(t, c)
	fourth := newService("fourth", label.HTTP, b)
	if status, _, err := w.get(fourth.address()); status != http.StatusNotFound {
		t.Errorf("a closed port: %d, %v", status, err)
	}
	c.publish(t, open(t, web, db, other, fourth))
	s.has(t, open(t, web, db, other, fourth).Set)
	s.wantReceived(t, c, before, "opening a port", map[string]int{
		"cluster": 1, "endpoint": 1, "listener": 1, "route": 1,
		"cluster_manager.cluster_added": 1, "cluster_manager.cds.update_success": 1,
		"listener_manager.listener_added": 1, "listener_manager.lds.update_success": 1,
	})
	unharmed("opening a port")
	if status, body, err := w.get(fourth.address()); body != "b" {
		t.Errorf("the opened port: %d %q, %v", status, body, err)
	}

	before = s.received(t, c)
	c.publish(t, closing(t, fourth))
	s.has(t, open(t, web, db, other).Set)
	s.wantReceived(t, c, before, "closing a port", map[string]int{
		"cluster": 1, "listener": 1, "endpoint": 1, "route": 1,
		"cluster_manager.cluster_removed": 1, "cluster_manager.cds.update_success": 1,
		"listener_manager.listener_removed": 1, "listener_manager.lds.update_success": 1,
	})
	unharmed("closing a port")
	if lines := s.complaints(); len(lines) > 0 {
		t.Errorf("Envoy complains: %q", lines)
	}
}

// received is what was sent, by type, and what Envoy counted of it.
func (s *sidecar) received(t *testing.T, c *control) map[string]int {
	t.Helper()
	got := map[string]int{}
	for _, typeName := range []string{"cluster", "endpoint", "listener", "route", "other"} {
		got[typeName] = int(c.metric(t, "traffic_control_pushed_resources_total", typeName))
	}
	counters := s.counters(t)
	for _, name := range []string{
		"listener_manager.lds.update_success", "listener_manager.lds.update_rejected",
		"listener_manager.listener_added", "listener_manager.listener_modified", "listener_manager.listener_removed",
		"listener_manager.listener_in_place_updated",
		"cluster_manager.cds.update_success", "cluster_manager.cds.update_rejected",
		"cluster_manager.cluster_added", "cluster_manager.cluster_modified", "cluster_manager.cluster_removed",
	} {
		n, ok := counters[name]
		if !ok {
			t.Fatalf("Envoy does not count %s", name)
		}
		got[name] = n
	}
	return got
}

func (s *sidecar) wantReceived(t *testing.T, c *control, before map[string]int, change string, want map[string]int) {
	t.Helper()
	after := s.received(t, c)
	for _, name := range slices.Sorted(maps.Keys(after)) {
		if got := after[name] - before[name]; got != want[name] {
			t.Errorf("%s: %s went up by %d, want %d", change, name, got, want[name])
		}
	}
}

// TestAChangedClusterWarmsAtOnce: its endpoints did not change, and Envoy does not ask for them. It must not wait, and no
// request may fail meanwhile.
func TestAChangedClusterWarmsAtOnce(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	web := newService("web", label.HTTP, w.backend(t, "a"))
	c.publish(t, open(t, web))
	s := startSidecar(t, w, c)
	load := w.load(t, web.address())
	for revision := range 20 {
		state := retimed(t, web, revision)
		c.publish(t, serve.Update{Set: state})
		active, warming := s.dump(t) // at once: the answers came after the endpoints were taken
		if len(warming) > 0 || active["cluster "+state[0].Name] != state[0].Version {
			t.Fatalf("revision %d: warming %v", revision, warming)
		}
	}
	load.wantNoFailure()
}

// TestMakeBeforeBreak: traffic moves to a new cluster while the old one is taken away, in one update, under load. Not one
// request fails.
func TestMakeBeforeBreak(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	names := []string{"a", "b"}
	backends := []uint16{w.backend(t, "a"), w.backend(t, "b")}
	front := newService("front", label.HTTP, backends[0])
	back := func(i int) *service { return newService(fmt.Sprint("back-", i), label.HTTP, backends[i%2]) }
	c.publish(t, open(t, front))
	startSidecar(t, w, c)
	load := w.load(t, front.address())
	const moves = 60
	for i := range moves {
		u := moved(t, front, back(i))
		if i > 0 {
			u.Remove = behind(t, back(i-1)).Remove
		}
		if a := c.publish(t, u); a.Acknowledged != 1 {
			t.Fatalf("move %d: %+v", i, a)
		}
		if status, body, err := w.get(front.address()); body != names[i%2] {
			t.Fatalf("move %d: %d %q, %v", i, status, body, err)
		}
	}
	load.wantNoFailure()
	if got := c.metric(t, "traffic_control_order_deadlines_total", ""); got != 0 {
		t.Errorf("%v deadlines passed", got)
	}
	// The control of this test: the wrong order does fail requests.
	load = w.load(t, front.address())
	c.publish(t, behind(t, back(moves-1)))
	load.wantFailure()
}

// moved leads the traffic of one service to the cluster of another.
func moved(t *testing.T, from, to *service) (u serve.Update) {
	t.Helper()
	for _, r := range to.resources(t) {
		if r.Type == resourcev3.ClusterType || r.Type == resourcev3.EndpointType {
			u.Set = append(u.Set, r)
		}
	}
	for _, r := range from.resources(t) {
		if r.Type == resourcev3.RouteType {
			u.Set = append(u.Set, changed(t, r, &routev3.RouteConfiguration{}, func(config *routev3.RouteConfiguration) {
				action := config.GetVirtualHosts()[0].GetRoutes()[0].GetRoute()
				action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: u.Set[0].Name}
			}))
		}
	}
	return u
}

// behind takes away what moved led the traffic to.
func behind(t *testing.T, s *service) (u serve.Update) {
	t.Helper()
	for _, r := range moved(t, s, s).Set[:2] {
		u.Remove = append(u.Remove, r.Key)
	}
	return u
}
