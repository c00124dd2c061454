package serve

import (
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// This file has what Envoy does that makes an order wrong, each found by asking who could still use what.

// A listener that reports traces names the collector's cluster. Envoy refuses it while the cluster is unknown, and the port
// would stay closed.
func TestATracedListenerWaitsForItsCollector(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(cluster("a", 1), endpoint("a", 1)), nil)
	p.want("cluster: a") // warming: Envoy acknowledges after endpoints
	update := set(staticCluster("traffic-tracing", 1), cluster("web", 1), endpoint("web", 1), route("q", 1), listener("l2", "q", 1))
	update.Set[4].Eager = true
	s.Publish(update, nil)
	p.quiet() // the listener must not go before the clusters of its change
}

// Of refused endpoints none may be applied: the clusters of the others warm on, and requests to them would fail.
func TestRoutesWaitForEndpointsThatMayBeRefusedTogether(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(cluster("new", 1), endpoint("new", 1), endpoint("old", 2), route("r", 2)), nil)
	p.want("cluster: new")
	e := p.want("endpoint: old")
	p.subscribe(endpoints, "new")
	s.Publish(set(endpoint("old", 3)), nil)
	p.ack(e)
	e = p.want("endpoint: new old")
	p.quiet() // if Envoy refuses them it may have applied none, and new warms on
	p.nack(e, "old is bad")
	p.ack(p.want("endpoint: new"))
}

// Envoy that reconnects while a cluster warms asks for clusters last. Routes that changed meanwhile must not come before.
func TestAReconnectWhileAClusterWarms(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(cluster("x", 1), endpoint("x", 1)), nil)
	p.want("cluster: x")
	p.close()
	s.Publish(Update{Set: set(cluster("new", 1), endpoint("new", 1), route("r", 2)).Set}, nil)

	p = s.connect(t, "a")
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: endpoints, ResourceNamesSubscribe: []string{"x"},
	})
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: listeners, InitialResourceVersions: map[string]string{
		"l": listener("l", "r", 1).Version,
	}})
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: routes, ResourceNamesSubscribe: []string{"r"},
		InitialResourceVersions: map[string]string{"r": route("r", 1).Version},
	})
	e := p.want("endpoint: x")
	p.ack(p.want("listener:")) // what a wildcard begins with
	p.quiet()                  // x is warm now: CDS is resumed and asks, before the endpoints are acknowledged
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters, InitialResourceVersions: map[string]string{
		"old": cluster("old", 1).Version, "x": cluster("x", 1).Version,
	}})
	p.ack(e)
	p.want("cluster: new")
	p.quiet()
}

// A refused listener stays as it was, and so must its cluster, until it is sent again.
func TestNothingIsWithdrawnFromRefusedListeners(t *testing.T) {
	s, p := oneService(t)
	s.Publish(set(listener("tcp", "", 1)), nil)
	p.ack(p.want("listener: tcp"))
	p.quiet()
	// tcp goes from cluster old to another that is there; bad is somebody else's.
	s.Publish(Update{Set: set(listener("tcp", "", 2), listener("bad", "", 1)).Set, Remove: remove(clusters, "old").Remove}, nil)
	l := p.want("listener: bad tcp")
	p.nack(l, "bad")
	p.nack(p.want("listener: bad"), "bad")
	p.wantAll("listener: tcp", "cluster: -old")
}

// An address may pass from a listener to a new one, which Envoy refuses while the address is the other's.
func TestAListenerThatWarmsWaitsForRemovals(t *testing.T) {
	s, p := oneService(t)
	update := set(cluster("new", 1), endpoint("new", 1), listener("l2", "q", 1), route("q", 1))
	update.Remove = remove(listeners, "l").Remove
	s.Publish(update, nil)
	p.ack(p.want("cluster: new"))
	p.quiet()
	p.subscribe(endpoints, "new")
	p.wantAll("endpoint: new", "listener: l2 -l")
	p.subscribe(routes, "q")
	p.wantAll("route: q")
	p.quiet()
}
