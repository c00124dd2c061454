package serve

import (
	"testing"
	"testing/synctest"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
)

// A control plane that starts knows nothing yet: a proxy that reconnects to it must keep what it has.
func TestNothingIsAnsweredBeforeTheFirstPublish(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		p := s.connect(t, "a")
		p.send(&discoveryv3.DeltaDiscoveryRequest{
			TypeUrl: clusters, InitialResourceVersions: map[string]string{"kept": cluster("kept", 1).Version, "gone": "0"},
		})
		p.subscribe(endpoints, "kept", "unknown")
		time.Sleep(startTimeout - time.Second)
		select {
		case r := <-p.got:
			t.Fatalf("received %q, want nothing", describe(r))
		default:
		}
		s.Publish(set(cluster("kept", 1), endpoint("kept", 1), cluster("new", 1)), nil)
		p.wantAll("cluster: new", "endpoint: kept -unknown", "cluster: -gone")
	})
}

// Nor does it keep a proxy that another replica could serve.
func TestAReplicaThatDoesNotStartKeepsNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		p := s.connect(t, "a")
		p.subscribe(clusters)
		for range p.got {
			t.Error("got an answer")
		}
		if code := p.code(); code != codes.Unavailable {
			t.Errorf("status %v, want %v", p.err, codes.Unavailable)
		}
		s.wantRefused(t, "starting")
	})
}

// A proxy that starts waits for clusters and listeners even if there are none.
func TestAnEmptyStateIsAnswered(t *testing.T) {
	s := startServer(t)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	p.subscribe(listeners, "*")
	s.Publish(Update{}, nil)
	p.wantAll("cluster:", "listener:")
	p.quiet()
}

// Envoy drops a resource and asks for it again without having unsubscribed; it waits for the answer.
func TestAReSubscriptionIsAnswered(t *testing.T) {
	s := startServer(t)
	s.Publish(set(cluster("c", 1), endpoint("c", 1), route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters, "*")
	p.subscribe(endpoints, "c")
	p.subscribe(routes, "r")
	p.wantAll("cluster: c", "endpoint: c", "route: r")
	p.quiet()
	p.subscribe(endpoints, "c")
	p.wantAll("endpoint: c")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	p.subscribe(clusters, "*")
	p.wantAll("cluster: c", "endpoint: c")
	p.quiet()
}

// Without an answer Envoy waits for its timeout, or forever.
func TestUnknownNamesAreAnswered(t *testing.T) {
	s := startServer(t)
	s.Publish(set(endpoint("known", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(endpoints, "known", "unknown")
	p.wantAll("endpoint: known -unknown")
	p.subscribe(routes, "nowhere")
	p.wantAll("route: -nowhere")
	p.subscribe(secrets, "*") // a name like any other: secrets are not given away wholesale
	p.wantAll("secret: -*")
	p.quiet()

	s.Publish(set(endpoint("unknown", 1)), nil)
	p.wantAll("endpoint: unknown") // it was remembered
	p.quiet()
}

// A changed cluster is a new one to Envoy: it warms until it gets endpoints, and does not ask for those that it has.
func TestEndpointsFollowTheirClusterEvenIfUnchanged(t *testing.T) {
	s := startServer(t)
	s.Publish(set(cluster("c", 1), endpoint("c", 1), cluster("d", 1), endpoint("d", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	p.ack(p.want("cluster: c d"))
	p.subscribe(endpoints, "c", "d")
	p.wantAll("endpoint: c d")
	p.quiet()

	s.Publish(set(cluster("c", 2)), nil)
	response := p.want("cluster: c")
	p.wantAll("endpoint: c") // already: Envoy acknowledges clusters when they are warm
	p.ack(response)
	p.quiet()
}

// The same for a listener and its routes.
func TestRoutesFollowTheirListenerEvenIfUnchanged(t *testing.T) {
	s := startServer(t)
	s.Publish(set(listener("l", "r", 1), route("r", 1), listener("other", "q", 1), route("q", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(listeners)
	p.ack(p.want("listener: l other"))
	p.subscribe(routes, "r", "q")
	p.wantAll("route: q r")
	p.quiet()

	s.Publish(set(listener("l", "r", 2)), nil)
	p.wantAll("listener: l", "route: r")
	p.quiet()
}

// A new cluster's endpoints are sent once, though there are two reasons to send them.
func TestEndpointsOfANewClusterAreSentOnce(t *testing.T) {
	s := startServer(t)
	s.Publish(set(cluster("c", 1), endpoint("c", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	response := p.want("cluster: c")
	p.subscribe(endpoints, "c") // Envoy asks before it acknowledges
	p.ack(response)
	p.wantAll("endpoint: c")
	p.quiet()
}

func TestAStaleNonceIsIgnored(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	first := p.want("route: r")
	p.ack(first)
	s.Publish(set(route("r", 2)), nil)
	second := p.want("route: r")
	p.nack(first, "too late") // says nothing of the second, which stays in flight
	s.Publish(set(route("r", 3)), nil)
	p.quiet()
	if r := s.rejected(); len(r) != 0 {
		t.Errorf("rejected: %v", r)
	}
	// A subscription counts whatever the nonce.
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: routes, ResponseNonce: first.GetNonce(), ResourceNamesSubscribe: []string{"more"}})
	p.ack(second)
	p.wantAll("route: r -more")
	p.quiet()
}

// What changes while its response is in flight is compared with what the proxy has after it, not before.
func TestAChangeDuringTheFlight(t *testing.T) {
	s := startServer(t)
	s.Publish(set(listener("l", "", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(listeners)
	inFlight := p.want("listener: l")
	s.Publish(remove(listeners, "l"), nil)
	p.quiet()
	p.ack(inFlight)
	p.wantAll("listener: -l")
	p.quiet()
}

// A name that is dropped and wanted again while its response is in flight, and gone before the proxy takes it.
func TestANameDroppedAndWantedAgainDuringTheFlight(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("a", 1), staticCluster("b", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters, "b")
	inFlight := p.want("cluster: b")
	p.unsubscribe(clusters, "b")
	p.quiet()
	s.Publish(remove(clusters, "b"), nil) // of no interest now
	p.subscribe(clusters, "*")
	p.quiet()
	p.ack(inFlight) // and so the proxy has it
	p.wantAll("cluster: a -b")
	p.quiet()
}

// A slow proxy gets the latest state, not every state in between.
func TestOneResponseInFlightAndLaterChangesCoalesced(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1), route("q", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r", "q")
	inFlight := p.want("route: q r")
	for revision := 2; revision <= 50; revision++ {
		s.Publish(set(route("r", revision)), nil)
	}
	s.Publish(set(route("q", 2)), nil)
	p.quiet()
	p.ack(inFlight)
	next := p.want("route: q r")
	if got, want := next.GetResources()[1].GetVersion(), route("r", 50).Version; got != want {
		t.Errorf("version of r is %s, want the latest, %s", got, want)
	}
	p.ack(next)
	p.quiet()
}

// A reconnect sends what changed while the proxy was away, and nothing else, but for endpoints: nobody can know whether
// their cluster was warming when the connection was lost, and then it would warm forever.
func TestAReconnectSendsOnlyWhatChanged(t *testing.T) {
	s := startServer(t)
	state := set(
		cluster("same", 1), cluster("changed", 2), cluster("new", 1), staticCluster("static", 1),
		endpoint("same", 1), endpoint("changed", 1), endpoint("new", 1),
		listener("l", "r", 1), route("r", 1), route("changed", 2),
	)
	s.Publish(state, nil)
	p := s.connect(t, "a")
	had := func(resources ...string) map[string]string {
		versions := map[string]string{}
		for _, name := range resources {
			versions[name] = "an old version"
		}
		return versions
	}
	initial := had("changed", "gone")
	initial["same"], initial["static"] = cluster("same", 1).Version, staticCluster("static", 1).Version
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters, InitialResourceVersions: initial})
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: endpoints, ResourceNamesSubscribe: []string{"same", "changed", "gone"},
		InitialResourceVersions: map[string]string{"same": endpoint("same", 1).Version, "gone": "old"},
	})
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: listeners, InitialResourceVersions: map[string]string{"l": listener("l", "r", 1).Version},
	})
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: routes, ResourceNamesSubscribe: []string{"r", "changed"},
		InitialResourceVersions: map[string]string{"r": route("r", 1).Version, "changed": "old"},
	})
	c := p.want("cluster: changed new")
	e := p.want("endpoint: changed same")
	p.want("listener:") // nothing: but the subscription is answered
	p.quiet()           // routes wait for the clusters that they may refer to
	p.subscribe(endpoints, "new")
	p.ack(c)
	p.ack(e)
	// "changed" again, since its cluster was replaced after it was sent? No: it was sent behind the cluster.
	p.wantAll("endpoint: new")
	p.wantAll("route: changed", "cluster: -gone", "endpoint: -gone")
	p.quiet()
}

func TestWildcardAndNamesMixed(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("a", 1), staticCluster("b", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters) // the old way to say "*"
	p.wantAll("cluster: a b")
	p.subscribe(clusters, "a", "ghost")
	p.wantAll("cluster: a -ghost")

	// While "*" stands the proxy cannot know whether a name that it drops is still meant for it.
	p.unsubscribe(clusters, "a")
	p.wantAll("cluster: a")
	p.unsubscribe(clusters, "ghost")
	p.wantAll("cluster: -ghost")
	p.unsubscribe(clusters, "never asked for")
	p.quiet()

	p.subscribe(clusters, "b")
	p.wantAll("cluster: b")
	p.unsubscribe(clusters, "*")
	p.quiet()
	s.Publish(set(staticCluster("a", 2), staticCluster("b", 2), staticCluster("c", 1)), nil)
	p.wantAll("cluster: b")
	p.unsubscribe(clusters, "b") // nothing is left, and nothing means nothing now
	p.quiet()
	s.Publish(set(staticCluster("b", 3)), nil)
	p.quiet()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: clusters})
	p.quiet()
	p.subscribe(clusters, "*")
	p.wantAll("cluster: a b c")
	p.quiet()
}
