package xds

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
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

// TestReconnectInTheMiddle: the connection breaks again and again at any byte, while the configuration changes. In the end
// Envoy has what is published, all of it in use.
func TestReconnectInTheMiddle(t *testing.T) {
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

// TestWhatEnvoyRefuses: one resource of a change passes the rules of Envoy's API and yet is refused by Envoy. All others of
// the change arrive, the refused one stays as it was and serves, its owner is named once, and nobody tries it again.
func TestWhatEnvoyRefuses(t *testing.T) {
	tests := map[string]struct {
		typeURL string
		spoil   func(*testing.T, envoy.Resource) envoy.Resource
	}{
		"a route with a domain twice": {resourcev3.RouteType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &routev3.RouteConfiguration{}, func(c *routev3.RouteConfiguration) {
				c.GetVirtualHosts()[0].Domains = []string{"x", "x"}
			})
		}},
		"endpoints of another name": {resourcev3.EndpointType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &endpointv3.ClusterLoadAssignment{}, func(c *endpointv3.ClusterLoadAssignment) {
				c.ClusterName = "another"
			})
		}},
		"a cluster that cannot be": {resourcev3.ClusterType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &clusterv3.Cluster{}, func(c *clusterv3.Cluster) { c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED })
		}},
		"a listener at another's address": {resourcev3.ListenerType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &listenerv3.Listener{}, func(l *listenerv3.Listener) {
				l.Address.GetSocketAddress().Address = clusterIP("service-0").String()
			})
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := startControl(t, w)
			backend := w.backend(t, "a")
			var services []*service
			for i := range 9 {
				services = append(services, newService(fmt.Sprint("service-", i), label.HTTP, backend))
			}
			bad := services[4]
			c.publish(t, open(t, services...))
			s := startSidecar(t, w, c)
			s.has(t, open(t, services...).Set)

			var u serve.Update
			var want []envoy.Resource
			for _, service := range services {
				for i, r := range different(t, service) {
					if service == bad && r.Type == test.typeURL {
						want = append(want, service.resources(t)[i])
						u.Set = append(u.Set, test.spoil(t, r))
						continue
					}
					want = append(want, r)
					u.Set = append(u.Set, r)
				}
			}
			if a := c.publish(t, u); a.Rejected != 1 {
				t.Errorf("applied: %+v, want it to be rejected", a)
			}
			s.has(t, want)
			if got := c.rejected(); len(got) != 1 || got[0].Owner != bad.Service || got[0].Key.Type != test.typeURL || got[0].Message == "" {
				t.Errorf("rejections: %+v, want one of %s", got, bad.Service)
			}
			tried := c.metric(t, "traffic_control_rejections_total", "")
			if tried > 10 {
				t.Errorf("%v responses were rejected to find one of %d resources", tried, len(services))
			}
			for _, service := range services {
				if status, body, err := w.get(service.address()); body != "a" {
					t.Errorf("%s: %d %q, %v", service.Service, status, body, err)
				}
			}
			c.publish(t, open(t, newService("later", label.HTTP, backend)))
			c.publish(t, serve.Update{Set: different(t, bad)}) // mended
			later := open(t, newService("later", label.HTTP, backend)).Set
			for _, service := range services {
				later = append(later, different(t, service)...)
			}
			s.has(t, later)
			if got := c.metric(t, "traffic_control_rejections_total", ""); got != tried {
				t.Errorf("what was refused was tried again, %v times", got-tried)
			}
		})
	}
}

// different is a service of which every resource differs from what it was.
func different(t *testing.T, s *service) []envoy.Resource {
	t.Helper()
	other := *s
	other.Endpoints = slices.Clone(s.Endpoints)
	other.Endpoints[0].Weight = 7
	resources := retimed(t, &other, 7)
	for i, r := range resources {
		switch r.Type {
		case resourcev3.RouteType:
			resources[i] = changed(t, r, &routev3.RouteConfiguration{}, func(c *routev3.RouteConfiguration) {
				c.GetVirtualHosts()[0].Name = "different"
			})
		case resourcev3.ListenerType:
			resources[i] = changed(t, r, &listenerv3.Listener{}, func(l *listenerv3.Listener) {
				l.PerConnectionBufferLimitBytes = wrapperspb.UInt32(1 << 19)
			})
		}
	}
	return resources
}

// retimed is a service whose cluster differs by its revision, so that it warms anew.
func retimed(t *testing.T, s *service, revision int) []envoy.Resource {
	t.Helper()
	resources := s.resources(t)
	for i, r := range resources {
		if r.Type == resourcev3.ClusterType {
			resources[i] = changed(t, r, &clusterv3.Cluster{}, func(c *clusterv3.Cluster) {
				c.ConnectTimeout = durationpb.New(c.GetConnectTimeout().AsDuration() + time.Duration(revision)*time.Millisecond)
			})
		}
	}
	return resources
}

// changed is a resource with something else in it.
func changed[M proto.Message](t *testing.T, r envoy.Resource, message M, change func(M)) envoy.Resource {
	t.Helper()
	if err := proto.Unmarshal(r.Body.GetValue(), message); err != nil {
		t.Fatal(err)
	}
	change(message)
	made, err := envoy.NewResource(r.Owner, r.Name, message)
	if err != nil {
		t.Fatal(err)
	}
	return made
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
	backends := []uint16{w.backend(t, "a"), w.backend(t, "b")}
	front := newService("front", label.HTTP, backends[0])
	c.publish(t, open(t, front))
	s := startSidecar(t, w, c)
	load := w.load(t, front.address())
	move := func(from, to int) (u, without serve.Update) {
		back := newService(fmt.Sprint("back-", to), label.HTTP, backends[to%2]).resources(t)
		for _, r := range front.resources(t) {
			if r.Type == resourcev3.RouteType {
				u.Set = append(u.Set, changed(t, r, &routev3.RouteConfiguration{}, func(config *routev3.RouteConfiguration) {
					config.GetVirtualHosts()[0].GetRoutes()[0].GetRoute().ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: back[0].Name}
				}))
			}
		}
		u.Set = append(u.Set, back[:2]...) // cluster and endpoints
		if from > 0 {
			for _, r := range newService(fmt.Sprint("back-", from), label.HTTP).resources(t)[:2] {
				without.Remove = append(without.Remove, r.Key)
			}
			u.Remove = without.Remove
		}
		return u, without
	}
	const moves = 60
	for i := 1; i <= moves; i++ {
		u, _ := move(i-1, i)
		if a := c.publish(t, u); a.Acknowledged != 1 {
			t.Fatalf("move %d: %+v", i, a)
		}
	}
	load.wantNoFailure()
	if got := c.metric(t, "traffic_control_order_deadlines_total", ""); got != 0 {
		t.Errorf("%v deadlines passed", got)
	}
	// The control of this test: the wrong order does fail requests.
	load = w.load(t, front.address())
	_, without := move(moves, moves+1)
	c.publish(t, without)
	load.wantFailure()
	_ = s
}

// A load is requests over new connections, one after the other, by several clients.
type load struct {
	t                *testing.T
	done             chan struct{}
	clients          sync.WaitGroup
	requests, failed atomic.Int64
	first            atomic.Value
}

func (w *world) load(t *testing.T, address string) *load {
	t.Helper()
	l := &load{t: t, done: make(chan struct{})}
	for range 4 {
		l.clients.Go(func() {
			for {
				select {
				case <-l.done:
					return
				default:
				}
				status, body, err := w.get(address)
				l.requests.Add(1)
				if err != nil || status != http.StatusOK {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, fmt.Sprintf("%d %q, %v", status, body, err))
				}
			}
		})
	}
	t.Cleanup(l.stop)
	l.until("requests flow", func() bool { return l.requests.Load() > 20 })
	return l
}

func (l *load) until(what string, is func() bool) {
	l.t.Helper()
	eventually(l.t, what, func() error {
		if is() {
			return nil
		}
		return fmt.Errorf("%d requests, %d failed", l.requests.Load(), l.failed.Load())
	})
}

func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.clients.Wait()
}

func (l *load) wantNoFailure() {
	l.t.Helper()
	l.stop()
	if l.failed.Load() > 0 {
		l.t.Errorf("%d of %d requests failed, the first with %v", l.failed.Load(), l.requests.Load(), l.first.Load())
	}
	l.t.Logf("%d requests", l.requests.Load())
}

func (l *load) wantFailure() {
	l.t.Helper()
	l.until("requests fail", func() bool { return l.failed.Load() > 0 })
	l.stop()
}
