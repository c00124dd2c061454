package serve

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// synced connects a proxy that has everything of the state and is subscribed to what it refers to.
func synced(t *testing.T, s *testServer, name string, endpointNames, routeNames []string) *proxy {
	t.Helper()
	p := s.connect(t, name)
	p.subscribe(clusters)
	p.ack(p.receive())
	p.subscribe(endpoints, endpointNames...)
	p.ack(p.receive())
	p.subscribe(listeners)
	p.ack(p.receive())
	p.subscribe(routes, routeNames...)
	p.ack(p.receive())
	p.quiet()
	return p
}

func oneService(t *testing.T) (*testServer, *proxy) {
	t.Helper()
	s := startServer(t)
	return s, s.withOneService(t)
}

func (s *testServer) withOneService(t *testing.T) *proxy {
	t.Helper()
	s.Publish(set(cluster("old", 1), endpoint("old", 1), listener("l", "r", 1), route("r", 1)), nil)
	return synced(t, s, "a", []string{"old"}, []string{"r"})
}

// moveToNew is the update that makes requests fail if its order is wrong: traffic goes from one cluster to another.
func moveToNew() Update {
	return Update{
		Set:    set(cluster("new", 1), endpoint("new", 1), listener("l2", "r", 1), route("r", 2)).Set,
		Remove: append(remove(clusters, "old").Remove, append(remove(endpoints, "old").Remove, remove(listeners, "l").Remove...)...),
	}
}

// Clusters and their endpoints first, then routes and listeners, then removals. Each step follows right behind the one
// before, but for what the proxy must ask for, and for routes.
func TestMakeBeforeBreak(t *testing.T) {
	s, p := oneService(t)
	s.Publish(moveToNew(), nil)

	c := p.want("cluster: new")
	p.quiet() // the cluster is warming: routes to it wait for its endpoints
	p.subscribe(endpoints, "new")
	e := p.want("endpoint: new")
	l, r := p.want("listener: l2 -l"), p.want("route: r")
	p.ack(c)
	p.ack(e)
	p.ack(l)
	p.quiet() // some routes may still use the old cluster
	p.ack(r)

	p.wantAll("cluster: -old", "endpoint: -old")
	p.quiet()
}

// A port that opens takes two turns: its listener warms until it has routes, and goes with the cluster; endpoints and
// routes are asked for. A listener whose routes the proxy has would use them at once, and so waits for the endpoints.
func TestAListenerThatWarmsGoesAhead(t *testing.T) {
	s, p := oneService(t)
	opened := set(cluster("new", 1), endpoint("new", 1), listener("l2", "q", 1), route("q", 1))
	s.Publish(opened, nil)
	c, l := p.want("cluster: new"), p.want("listener: l2")
	p.ack(c)
	p.ack(l)
	p.subscribe(routes, "q")
	p.quiet() // its cluster has no endpoints
	p.subscribe(endpoints, "new")
	e, r := p.want("endpoint: new"), p.want("route: q")
	p.ack(e)
	p.ack(r)
	p.quiet()

	s.Publish(Update{Remove: append(remove(clusters, "new").Remove, append(remove(endpoints, "new").Remove,
		append(remove(listeners, "l2").Remove, remove(routes, "q").Remove...)...)...)}, nil)
	p.wantAll("listener: -l2", "cluster: -new", "endpoint: -new", "route: -q")
	p.unsubscribe(endpoints, "new")
	p.quiet()

	s.Publish(opened, nil) // while the old listener drains and keeps its subscription
	p.ack(p.want("cluster: new"))
	p.quiet()
	p.subscribe(endpoints, "new")
	p.wantAll("endpoint: new", "listener: l2", "route: q")
	p.quiet()
}

// The endpoints of a cluster that goes are not taken away before it, and not mentioned when the proxy dropped them.
func TestEndpointsOfARemovedCluster(t *testing.T) {
	s, p := oneService(t)
	s.Publish(Update{Remove: append(remove(clusters, "old").Remove, remove(endpoints, "old").Remove...)}, nil)
	c := p.want("cluster: -old")
	e := p.want("endpoint: -old")
	p.unsubscribe(endpoints, "old")
	p.ack(c)
	p.ack(e)
	p.quiet()
}

// A change of weights is endpoints only: nothing else is sent, and it waits for nothing.
func TestEndpointsAloneWaitForNothing(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(route("r", 2)), nil)
	inFlight := p.want("route: r")
	s.Publish(set(endpoint("old", 2)), nil)
	p.wantAll("endpoint: old")
	p.ack(inFlight)
	p.quiet()
}

// A change waits for its own clusters only, not for what other changes keep busy.
func TestAChangeWaitsForNoLaterChange(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(cluster("new", 1), endpoint("new", 1), route("r", 2)), nil)
	c := p.want("cluster: new")
	s.Publish(set(staticCluster("later", 1)), nil)
	p.ack(c)
	later := p.want("cluster: later")
	p.subscribe(endpoints, "new")
	e, r := p.want("endpoint: new"), p.want("route: r") // the other cluster is still in flight, but of the later change
	p.ack(later)
	p.ack(e)
	p.ack(r)
	p.quiet()
}

// Two changes of a route that are sent together wait for what the later one needs.
func TestCoalescedChangesWaitForTheLater(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(route("r", 2)), nil)
	inFlight := p.want("route: r")
	s.Publish(set(route("r", 3)), nil)
	s.Publish(set(staticCluster("new", 1), route("r", 4)), nil)
	c := p.want("cluster: new")
	p.ack(inFlight)
	p.quiet()
	p.ack(c)
	p.wantAll("route: r")
	p.quiet()
}

// A cluster that the proxy refuses will not ask for endpoints: routes do not wait for them.
func TestARefusedClusterHoldsUpNothing(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(cluster("new", 1), endpoint("new", 1), route("r", 2)), nil)
	p.nack(p.want("cluster: new"), "no")
	p.wantAll("route: r")
	p.quiet()
}

// A proxy that starts: what it asks for is answered as it asks, though nothing else is acknowledged yet.
func TestAStartingProxyIsNotKeptWaiting(t *testing.T) {
	s := startServer(t)
	s.Publish(set(cluster("c", 1), endpoint("c", 1), listener("l", "r", 1), route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	c := p.want("cluster: c")
	p.subscribe(endpoints, "c", "unknown")
	e := p.want("endpoint: c -unknown")
	p.subscribe(listeners)
	l := p.want("listener: l")
	p.ack(c)
	p.ack(e)
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	p.ack(l)
	p.quiet()
}

// An address that passes from one listener to another: Envoy refuses the second unless the first is gone before or in
// the same response.
func TestListenersAreReplacedInOneResponse(t *testing.T) {
	s := startServer(t)
	s.Publish(set(listener("l", "", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(listeners)
	p.wantAll("listener: l")
	s.Publish(Update{Set: set(listener("m", "", 1)).Set, Remove: remove(listeners, "l").Remove}, nil)
	p.wantAll("listener: m -l")
	p.quiet()
}

// A proxy that reconnects in the middle of a change ends where the change ends.
func TestAReconnectInTheMiddleOfAChange(t *testing.T) {
	s, p := oneService(t)
	s.Publish(moveToNew(), nil)
	p.want("cluster: new")
	p.close() // taken, but never acknowledged

	p = s.connect(t, "a")
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters, InitialResourceVersions: map[string]string{
		"old": cluster("old", 1).Version, "new": cluster("new", 1).Version,
	}})
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: endpoints, ResourceNamesSubscribe: []string{"old", "new"},
		InitialResourceVersions: map[string]string{"old": endpoint("old", 1).Version},
	})
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: listeners, InitialResourceVersions: map[string]string{
		"l": listener("l", "r", 1).Version,
	}})
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: routes, ResourceNamesSubscribe: []string{"r"},
		InitialResourceVersions: map[string]string{"r": route("r", 1).Version},
	})
	got := map[string]int{}
	for range 5 {
		r := p.receive()
		got[describe(r)]++
		p.ack(r)
	}
	p.quiet()
	for _, want := range []string{"endpoint: new", "listener: l2 -l", "cluster: -old", "endpoint: -old"} {
		if got[want] != 1 {
			t.Errorf("%q was sent %d times, in %v", want, got[want], got)
		}
	}
}
