package serve

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// A control plane that starts knows nothing yet: a proxy that reconnects to it must keep what it has.
func TestNothingIsAnsweredBeforeTheFirstPublish(t *testing.T) {
	s := startServer(t)
	p := s.connect(t, "a")
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: clusters, InitialResourceVersions: map[string]string{"kept": cluster("kept", 1).Version, "gone": "0"},
	})
	p.subscribe(endpoints, "kept")
	s.Publish(set(cluster("kept", 1), endpoint("kept", 1), cluster("new", 1)), nil)
	// Everything in one response: nothing was said before.
	p.wantAll("cluster: new", "endpoint: kept", "cluster: -gone")
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
	p.wantAll("cluster: c", "endpoint: c")
	p.quiet()
	p.subscribe(endpoints, "c")
	p.wantAll("endpoint: c")
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
	p.wantAll("cluster: c", "endpoint: c")
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

// What a proxy refuses is not sent to it again and again; others get it; the next content is tried.
func TestARejectedResourceIsQuarantinedForThatProxyAlone(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1), route("q", 1)), nil)
	a, b := s.connect(t, "a"), s.connect(t, "b")
	for _, p := range []*proxy{a, b} {
		p.subscribe(routes, "r", "q")
		p.wantAll("route: q r")
	}
	s.Publish(set(route("r", 2)), nil)
	a.nack(a.want("route: r"), "no such thing")
	b.wantAll("route: r")
	a.quiet()
	s.Publish(set(route("q", 2)), nil) // others go on
	a.wantAll("route: q")
	a.subscribe(routes, "r") // asked again, the answer is the last good one
	if again := a.want("route: r"); again.GetResources()[0].GetVersion() != route("r", 1).Version {
		t.Errorf("the answer is version %s, want the one that was taken before", again.GetResources()[0].GetVersion())
	} else {
		a.ack(again)
	}
	s.Publish(set(route("r", 3)), nil)
	a.wantAll("route: r")
	a.quiet()

	got := s.rejected()
	if len(got) != 1 {
		t.Fatalf("%d rejections, want 1: %v", len(got), got)
	}
	r := got[0]
	if r.Proxy != pod("a") || r.Key.Name != "r" || r.Version != route("r", 2).Version || r.Message != "no such thing" ||
		r.Owner.String() != "Service default/r" {
		t.Errorf("rejection is %+v", r)
	}
}

// A changed cluster begins without endpoints. If the new ones are refused it must get the last good ones again, or a bad
// object would take away what worked.
func TestAChangedClusterOfRejectedEndpointsGetsTheLastGoodOnes(t *testing.T) {
	s := startServer(t)
	s.Publish(set(cluster("c", 1), endpoint("c", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	p.ack(p.want("cluster: c"))
	p.subscribe(endpoints, "c")
	p.wantAll("endpoint: c")
	p.quiet()
	done := published(s, set(cluster("c", 2), endpoint("c", 2)))
	p.wantAll("cluster: c")
	p.nack(p.want("endpoint: c"), "no")
	again := p.want("endpoint: c")
	if again.GetResources()[0].GetVersion() != endpoint("c", 1).Version {
		t.Errorf("version %s, want the last good one", again.GetResources()[0].GetVersion())
	}
	pending(t, done)
	p.ack(again)
	wantApplied(t, done, Applied{Proxies: 1, Rejected: 1})
	p.quiet()
	s.Publish(set(cluster("c", 3)), nil)
	p.wantAll("cluster: c", "endpoint: c")
	p.quiet()
	if got := s.rejected(); len(got) != 1 {
		t.Errorf("rejections: %v", got)
	}
}

// Envoy stops at the first bad resource of a response and does not always say which it was. It must be found, and
// everything else must arrive.
func TestARejectedResponseIsSentAgainInParts(t *testing.T) {
	for _, bad := range [][]string{{"r0"}, {"r7"}, {"r2", "r3"}, {"r0", "r4", "r7"}} {
		t.Run(strings.Join(bad, "+"), func(t *testing.T) {
			s := startServer(t)
			var u Update
			for i := range 8 {
				u.Set = append(u.Set, route(fmt.Sprint("r", i), 1))
			}
			s.Publish(u, nil)
			p := s.connect(t, "a")
			p.subscribe(routes, "r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7")
			done := map[string]bool{}
			for len(done) < 8 {
				response := p.receive()
				var names []string
				for _, r := range response.GetResources() {
					names = append(names, r.GetName())
				}
				if slices.ContainsFunc(names, func(n string) bool { return slices.Contains(bad, n) }) {
					p.nack(response, "one of these is bad")
					if len(names) == 1 {
						done[names[0]] = true
					}
					continue
				}
				p.ack(response)
				for _, n := range names {
					done[n] = true
				}
			}
			p.quiet()
			var owners, want []string
			for _, r := range s.rejected() {
				owners = append(owners, r.Owner.String())
			}
			for _, name := range bad {
				want = append(want, "Service default/"+name)
			}
			if slices.Sort(owners); !slices.Equal(owners, want) {
				t.Errorf("rejections name %v, want %v", owners, want)
			}
		})
	}
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

// A removed resource is removed at the proxy, an unsubscribed one is left alone.
func TestRemovalsAndUnsubscriptions(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("a", 1), staticCluster("b", 1), route("r", 1), route("q", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	p.subscribe(routes, "r", "q")
	p.wantAll("cluster: a b", "route: q r")
	p.unsubscribe(routes, "q")
	p.quiet()
	s.Publish(remove(routes, "q"), nil)
	p.quiet()
	s.Publish(remove(routes, "r"), nil)
	p.wantAll("route: -r")
	s.Publish(remove(clusters, "a", "unknown"), nil)
	p.wantAll("cluster: -a")
	s.Publish(Update{Set: set(staticCluster("b", 2)).Set, Remove: remove(clusters, "b").Remove}, nil)
	p.wantAll("cluster: b") // set and removed at once means set
	s.Publish(set(staticCluster("a", 1), route("r", 1)), nil)
	p.ack(p.want("cluster: a"))
	p.wantAll("route: r") // still subscribed
	p.quiet()
}

// A proxy that reconnects may say what it has of very many resources.
func TestALargeRequest(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("c", 1)), nil)
	p := s.connect(t, "a")
	versions := map[string]string{}
	long := strings.Repeat("x", 200)
	for i := range 130_000 {
		versions[fmt.Sprint(long, i)] = "0123456789abcdef"
	}
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: routes, InitialResourceVersions: versions, ResourceNamesSubscribe: []string{"r"}})
	p.wantAll("route: -r")
}

// A first sync is a handful of messages, each of a size that any client accepts.
func TestAFirstSyncIsBatchedAndSplitBySize(t *testing.T) {
	s := startServer(t)
	const n = 1000
	var u Update
	var names []string
	for i := range n {
		name := fmt.Sprintf("%d|default|service-%04d.outbound", 8000+i, i)
		names = append(names, name)
		u.Set = append(u.Set, cluster(name, 1), endpoint(name, 1), listener(name, name, 1), route(name, 1))
	}
	big := listener("big", "", 1)
	big.Body.Value = append(big.Body.GetValue(), make([]byte, maxResponse)...) // larger than a response may be
	u.Set = append(u.Set, big)
	s.Publish(u, nil)
	p := s.connect(t, "a")
	messages := 0
	sync := func(want int) {
		t.Helper()
		for got := 0; got < want; messages++ {
			r := p.receive()
			size := 0
			for _, resource := range r.GetResources() {
				size += len(resource.GetResource().GetValue())
			}
			if size > maxResponse && len(r.GetResources()) > 1 {
				t.Errorf("a response of %d resources has %d bytes", len(r.GetResources()), size)
			}
			got += len(r.GetResources())
			p.ack(r)
		}
	}
	p.subscribe(clusters)
	sync(n)
	p.subscribe(endpoints, names...)
	sync(n)
	p.subscribe(listeners)
	sync(n + 1)
	p.subscribe(routes, names...)
	sync(n)
	if messages > 8 {
		t.Errorf("%d messages for %d services", messages, n)
	}
	p.quiet()
}

// What the proxy decodes is what was published.
func TestResponsesDecodeToWhatWasPublished(t *testing.T) {
	s := startServer(t)
	want := []string{}
	u := set(cluster("c", 1), staticCluster("static|é", 3))
	for _, r := range u.Set {
		want = append(want, fmt.Sprint(r.Name, r.Version, r.Body))
	}
	s.Publish(u, nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	response := p.receive()
	got := []string{}
	for _, r := range response.GetResources() {
		got = append(got, fmt.Sprint(r.GetName(), r.GetVersion(), r.GetResource()))
	}
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if response.GetNonce() == "" || response.GetSystemVersionInfo() == "" {
		t.Errorf("nonce %q, version %q", response.GetNonce(), response.GetSystemVersionInfo())
	}
}
