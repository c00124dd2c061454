package serve

import (
	"testing"
	"testing/synctest"
	"time"
)

// published runs a Publish and returns where its report will be.
func published(s *testServer, u Update) <-chan Applied {
	done := make(chan Applied, 2) // a second report would be an error that some test sees
	s.Publish(u, func(a Applied) { done <- a })
	return done
}

func pending(t *testing.T, done <-chan Applied) {
	t.Helper()
	select {
	case a := <-done:
		t.Fatalf("applied too early: %+v", a)
	default:
	}
}

func wantApplied(t *testing.T, done <-chan Applied, want Applied) {
	t.Helper()
	select {
	case got := <-done:
		if got.Took <= 0 {
			t.Errorf("took %v", got.Took)
		}
		if got.Took = 0; got != want {
			t.Errorf("applied: %+v, want %+v", got, want)
		}
	case <-time.After(long):
		t.Fatalf("never applied, want %+v", want)
	}
	pending(t, done)
}

// The log line of a change says when every proxy had it. It must wait for the last, and for everything of the change.
func TestAppliedWaitsForEveryProxy(t *testing.T) {
	s := startServer(t)
	wantApplied(t, published(s, set(cluster("c", 1), endpoint("c", 1), route("r", 1))), Applied{})

	a, b := s.connect(t, "a"), s.connect(t, "b")
	for _, p := range []*proxy{a, b} {
		p.subscribe(clusters)
		p.ack(p.want("cluster: c"))
		p.subscribe(endpoints, "c")
		p.wantAll("endpoint: c")
		p.quiet()
	}
	a.subscribe(routes, "r")
	a.wantAll("route: r")
	a.quiet()

	done := published(s, set(cluster("c", 2), route("r", 2)))
	b.wantAll("cluster: c", "endpoint: c")
	b.quiet()
	a.wantAll("cluster: c", "endpoint: c")
	route2 := a.want("route: r")
	a.quiet()
	pending(t, done)
	a.ack(route2)
	wantApplied(t, done, Applied{Proxies: 2, Acknowledged: 2})

	// Only one proxy is subscribed to this.
	done = published(s, set(route("r", 3)))
	a.wantAll("route: r")
	wantApplied(t, done, Applied{Proxies: 1, Acknowledged: 1})

	// Nothing changed, or nobody wants it.
	wantApplied(t, published(s, set(route("r", 3))), Applied{})
	wantApplied(t, published(s, set(route("nobody's", 1))), Applied{})
}

func TestAppliedTellsWhoRejected(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1), route("q", 1)), nil)
	a, b := s.connect(t, "a"), s.connect(t, "b")
	for _, p := range []*proxy{a, b} {
		p.subscribe(routes, "r", "q")
		p.wantAll("route: q r")
		p.quiet()
	}
	done := published(s, set(route("r", 2)))
	a.nack(a.want("route: r"), "no")
	b.wantAll("route: r")
	wantApplied(t, done, Applied{Proxies: 2, Acknowledged: 1, Rejected: 1})

	// Published again before the proxy saw anything else: it is not asked, and refuses it still.
	s.Publish(set(route("q", 2)), nil)
	inFlight := a.want("route: q")
	b.wantAll("route: q")
	s.Publish(set(route("r", 3)), nil)
	b.wantAll("route: r")
	done = published(s, set(route("r", 2)))
	b.wantAll("route: r")
	a.ack(inFlight)
	wantApplied(t, done, Applied{Proxies: 2, Acknowledged: 1, Rejected: 1})
	a.quiet()

	// Published again after the proxy took another: it is asked again.
	s.Publish(set(route("r", 4)), nil)
	a.wantAll("route: r")
	a.quiet()
	s.Publish(set(route("r", 2)), nil)
	a.wantAll("route: r")
}

func TestAppliedDoesNotWaitForTheGone(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	a, b := s.connect(t, "a"), s.connect(t, "b")
	for _, p := range []*proxy{a, b} {
		p.subscribe(routes, "r")
		p.wantAll("route: r")
		p.quiet()
	}
	done := published(s, set(route("r", 2)))
	a.want("route: r")
	b.wantAll("route: r")
	b.quiet()
	pending(t, done)
	a.close()
	wantApplied(t, done, Applied{Proxies: 2, Acknowledged: 1, Gone: 1})
}

// A proxy that is connected and answers nothing must not keep the log line of a change for ever, nor all changes in memory.
func TestAppliedDoesNotWaitForever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, func(c *Config) { c.Late = 0 })
		s.Publish(set(route("r", 1)), nil)
		p, mute := s.connect(t, "a"), s.connect(t, "b")
		for _, p := range []*proxy{p, mute} {
			p.subscribe(routes, "r")
			p.wantAll("route: r")
			p.quiet()
		}
		first := published(s, set(route("r", 2)))
		p.wantAll("route: r")
		inFlight := mute.want("route: r")
		pending(t, first)
		if a := <-first; a.Took != defaultLate || a.Proxies != 2 || a.Acknowledged != 1 || a.Late != 1 {
			t.Errorf("applied: %+v", a)
		}
		second := published(s, set(route("r", 3)))
		p.wantAll("route: r")
		if n := s.waiters(pod("b")); n != 1 {
			t.Errorf("%d changes are kept for the proxy, want the one that somebody waits for", n)
		}
		mute.ack(inFlight)
		mute.wantAll("route: r")
		if a := <-second; a.Proxies != 2 || a.Acknowledged != 2 {
			t.Errorf("applied: %+v", a)
		}
		pending(t, first)
	})
}

// waiters is how many changes are kept for a proxy; in a synctest bubble only.
func (s *testServer) waiters(proxy Identity) int {
	synctest.Wait()
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	for st := range s.store.streams {
		if st.proxy == proxy {
			return len(st.waiters)
		}
	}
	return 0
}

// Changes that are sent together are confirmed together.
func TestAppliedOfCoalescedChanges(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	p.quiet()
	first := published(s, set(route("r", 2)))
	inFlight := p.want("route: r")
	second, third := published(s, set(route("r", 3))), published(s, set(route("r", 2)))
	p.quiet()
	pending(t, first)
	p.ack(inFlight) // and the last is what it has now
	for _, done := range []<-chan Applied{first, second, third} {
		wantApplied(t, done, Applied{Proxies: 1, Acknowledged: 1})
	}
	p.quiet()
}

// A proxy that reads nothing costs no more than the keys that there are, and holds up nobody else.
func TestAProxyThatDoesNotRead(t *testing.T) {
	s := startServer(t)
	s.Publish(set(hugeCluster("c"), hugeEndpoint("e")), nil)
	stuck := s.connect(t, "a")
	stuck.subscribe(clusters)
	stuck.subscribe(endpoints, "e") // the second response waits in the connection
	stuck.subscribe(secrets, "s")   // the third in the server
	p := s.connect(t, "b")
	p.subscribe(secrets, "s")
	p.wantAll("secret: -s")
	var dones []<-chan Applied
	for revision := range 3 * maxMail {
		dones = append(dones, published(s, set(secret("s", revision))))
		p.wantAll("secret: s")
	}
	if n := s.mail(pod("a")); n == 0 || n > maxMail {
		t.Errorf("%d changes wait for the proxy, want 1 to %d", n, maxMail)
	}
	stuck.close()
	for _, done := range dones {
		if got := <-done; got.Acknowledged != 1 {
			t.Fatalf("applied: %+v", got)
		}
	}
}
