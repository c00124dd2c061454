package serve

import (
	"testing"
	"time"
)

// lingering has one service, which lingers for longer than the test takes, unless depart is called.
func lingering(t *testing.T) (*testServer, *proxy) {
	t.Helper()
	s := startServer(t)
	s.store.linger = time.Hour
	return s, s.withOneService(t)
}

func closed() Update {
	u := remove(clusters, "old")
	u.Remove = append(u.Remove, remove(endpoints, "old").Remove...)
	u.Remove = append(u.Remove, remove(listeners, "l").Remove...)
	u.Remove = append(u.Remove, remove(routes, "r").Remove...)
	return u
}

// elapse ends the time of what lingers.
func (s *testServer) elapse() {
	s.store.mu.RLock()
	departures := map[*departure]bool{}
	for _, d := range s.store.leaving {
		departures[d] = true
	}
	s.store.mu.RUnlock()
	for d := range departures {
		s.store.depart(d)
	}
}

// A port closes at once; a request that its listener took just before finds its cluster.
func TestWhatAListenerUsedLingers(t *testing.T) {
	s, p := lingering(t)
	applied := make(chan Applied, 1)
	s.Publish(closed(), func(a Applied) { applied <- a })
	p.wantAll("listener: -l")
	p.quiet()
	if got := <-applied; got.Acknowledged != 1 {
		t.Errorf("the port is closed, and reported as %+v", got)
	}
	s.elapse()
	p.wantAll("cluster: -old", "endpoint: -old", "route: -r")
	p.quiet()
}

// A port that is opened again meanwhile needs no cluster, and keeps what it has when the time is over.
func TestWhatIsOpenedAgainStays(t *testing.T) {
	s, p := lingering(t)
	s.Publish(closed(), nil)
	p.wantAll("listener: -l")
	first := s.store.leaving[cluster("old", 1).Key]
	s.Publish(set(cluster("old", 1), endpoint("old", 2), listener("l", "r", 1), route("r", 1)), nil)
	p.wantAll("endpoint: old", "listener: l", "route: r")
	s.store.depart(first)
	p.quiet()

	s.Publish(closed(), nil)
	p.wantAll("listener: -l")
	s.store.depart(first) // is of the time before
	p.quiet()
	s.elapse()
	p.wantAll("cluster: -old", "endpoint: -old", "route: -r")
}

// A port that is opened again at the very moment at which what it had is to go keeps it: for good, since nothing of it is sent
// again.
func TestWhatIsOpenedAgainInTheLastMomentStays(t *testing.T) {
	s, p := lingering(t)
	s.Publish(closed(), nil)
	p.wantAll("listener: -l")
	again := set(cluster("old", 1), endpoint("old", 1), listener("l", "r", 1), route("r", 1))
	records := s.store.prepare(again.Set)
	s.elapse()
	s.store.commit(again, records, nil)
	p.wantAll("listener: l", "route: r")
	p.quiet()
	for _, r := range again.Set {
		if s.store.resources[r.Type][r.Name] == nil {
			t.Errorf("%s %s is gone", r.Type, r.Name)
		}
	}
}

// Removed for good: nothing is kept of what has left.
func TestNothingLingersForEver(t *testing.T) {
	s := startServer(t)
	s.store.linger = time.Millisecond
	s.Publish(set(cluster("old", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	p.wantAll("cluster: old")
	s.Publish(remove(clusters, "old"), nil)
	p.wantAll("cluster: -old")
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	if len(s.store.leaving) > 0 || len(s.store.resources[clusters]) > 0 {
		t.Errorf("%d leave, %d are here", len(s.store.leaving), len(s.store.resources[clusters]))
	}
}
