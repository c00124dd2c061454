package serve

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
)

// These tests run on a fake clock.

func TestASilentStreamDoesNotStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		s.Publish(set(route("r", 1)), nil)
		p := s.connect(t, "a")
		for range p.got {
		}
		if code := p.code(); code != codes.DeadlineExceeded {
			t.Errorf("status %v, want %v", p.err, codes.DeadlineExceeded)
		}
		s.wantRefused(t, "silent")
	})
}

// Envoy pings every 30 s; a server that takes this for abuse would cut it off.
func TestPingsOfAnIdleProxyAreWelcome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		s.Publish(set(route("r", 1)), nil)
		conn := s.dial(t, s.tls(), grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}))
		p := s.open(t, conn, "a", "Bearer token-a")
		p.subscribe(routes, "r")
		p.wantAll("route: r")
		time.Sleep(20 * time.Minute)
		s.Publish(set(route("r", 2)), nil)
		p.wantAll("route: r")
	})
}

// A replica that stops tells its proxies to go to another, and does not wait for them.
func TestStopping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		s.Publish(set(route("r", 1)), nil)
		p, silent := s.connect(t, "a"), s.connect(t, "b")
		p.subscribe(routes, "r")
		p.wantAll("route: r")
		done := published(s, set(route("r", 2)))
		p.want("route: r")
		began := time.Now()
		go s.close()
		if code := p.ended(); code != codes.Unavailable {
			t.Errorf("status %v, want %v", p.err, codes.Unavailable)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
		if a := <-done; a.Gone != 1 {
			t.Errorf("applied: %+v", a)
		}
		silent.ended()
		s.close()
		if took := time.Since(began); took > stopTimeout {
			t.Errorf("it took %v", took)
		}
	})
}

// Proxies spread over the replicas again, and their tokens are checked again, at least twice an hour.
func TestConnectionsEndByAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t)
		s.Publish(set(route("r", 1)), nil)
		p := s.connect(t, "a")
		p.subscribe(routes, "r")
		p.wantAll("route: r")
		began := time.Now()
		for range p.got {
		}
		if age := time.Since(began); age < 27*time.Minute || age > 34*time.Minute {
			t.Errorf("the connection ended after %v", age)
		}
	})
}

// A proxy that does not answer does not hold up its own routes forever: after a deadline each step is taken all the
// same, one after the other.
func TestEachWaitIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, func(c *Config) { c.Patience = 0 })
		p := s.withOneService(t)
		began := time.Now()
		s.Publish(moveToNew(), nil)
		c := p.want("cluster: new")
		p.want("listener: l2 -l")
		p.want("route: r")
		if took := time.Since(began); took != defaultPatience {
			t.Errorf("routes came after %v, want %v", took, defaultPatience)
		}
		e := p.want("endpoint: -old") // the proxy never confirmed that it uses the new one
		if took := time.Since(began); took != 2*defaultPatience {
			t.Errorf("removals came after %v, want %v", took, 2*defaultPatience)
		}
		p.ack(c)
		p.ack(e)
		p.wantAll("cluster: -old")
		p.quiet()
		if got := testutil.ToFloat64(s.metrics.deadlines); got != 2 {
			t.Errorf("%v deadlines counted, want 2", got)
		}
	})
}

// A proxy that never asks for the endpoints of its new cluster does not hold up the rest either.
func TestAwaitingEndpointsIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, func(c *Config) { c.Patience = 0 })
		p := s.withOneService(t)
		done := published(s, set(cluster("new", 1), endpoint("new", 1), route("r", 2)))
		p.wantAll("cluster: new", "route: r")
		if a := <-done; a.Acknowledged != 1 || a.Took != defaultPatience {
			t.Errorf("applied: %+v", a)
		}
		p.subscribe(endpoints, "new") // late, but answered
		p.wantAll("endpoint: new")
		p.quiet()
	})
}

// A route that changes all the time, each time with a new cluster, at a proxy that answers slowly: it still arrives.
func TestChangesWithoutPauseDoNotStarveRoutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := startServer(t, func(c *Config) { c.Patience = 0 })
		p := s.withOneService(t)
		began := time.Now()
		stop, stopped := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(stopped)
			for revision := 2; ; revision++ {
				select {
				case <-time.After(10 * time.Millisecond):
					s.Publish(set(staticCluster("busy", revision), route("r", revision)), nil)
				case <-stop:
					return
				}
			}
		}()
		for {
			response := p.receive()
			time.Sleep(50 * time.Millisecond)
			p.ack(response)
			if describe(response) == "route: r" {
				break
			}
		}
		if took := time.Since(began); took > 2*defaultPatience {
			t.Errorf("the route came after %v", took)
		}
		close(stop)
		<-stopped
	})
}
