package serve

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

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

// Envoy applies a refused response in part: nobody knows what it has of it.
func TestAPartIsSentAgainEvenIfItWasTakenBack(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1), route("q", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r", "q")
	p.wantAll("route: q r")
	s.Publish(set(route("r", 2), route("q", 2)), nil)
	inFlight := p.want("route: q r")
	s.Publish(set(route("r", 1)), nil)
	p.quiet()
	p.nack(inFlight, "q is bad") // but r may have been applied before q was tried
	p.nack(p.want("route: q"), "no")
	r := p.want("route: r")
	if got := r.GetResources()[0].GetVersion(); got != route("r", 1).Version {
		t.Errorf("r is version %s, want the one that is published", got)
	}
	p.ack(r)
	p.quiet()
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

// The gateway's pods are ours, and what they refuse of a Secret is replaced: all of it is told.
func TestRejectionsOfAGatewayAreAllTold(t *testing.T) {
	gateway := pod("gateway-0")
	gateway.Namespace, gateway.ServiceAccount = "traffic-system", "traffic-ingress"
	s := startServer(t, func(c *Config) {
		c.GatewayAccount, c.Authenticator = "traffic-system/traffic-ingress", fakeTokens{"token-gateway": gateway}
	})
	s.Publish(set(cluster("mesh", 1)), nil)
	s.PublishGateway(set(secret("shop/web", 0)), nil)
	p := s.open(t, s.dial(t, s.tls()), "", "Bearer token-gateway")
	p.id = GatewayNodeID
	p.subscribe(secrets, "shop/web")
	p.wantAll("secret: shop/web")
	const times = 50
	for n := 1; n <= times; n++ {
		s.PublishGateway(set(secret("shop/web", n)), nil)
		p.nack(p.want("secret: shop/web"), "no")
	}
	p.quiet()
	if got := len(s.rejected()); got != times {
		t.Errorf("%d rejections are told, want %d", got, times)
	}
}

// A pod can refuse, forget, and refuse again what is good, with any text. That is counted, but does not fill the log, and
// another pod's refusal is told as ever.
func TestRejectionsOfAProxyAreBounded(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	const times = 100
	for range times {
		p.subscribe(routes, "r")
		p.nack(p.want("route: r"), strings.Repeat("é", 10_000)+"\n")
		p.unsubscribe(routes, "r")
	}
	p.quiet()
	if got := testutil.ToFloat64(s.metrics.rejections.WithLabelValues("route")); got != times {
		t.Errorf("%v rejections are counted, want %d", got, times)
	}
	other := s.connect(t, "b")
	other.subscribe(routes, "r")
	other.nack(other.want("route: r"), "no")
	other.quiet()
	told := s.rejected()
	if got := len(told); got < 20 || got > 30 {
		t.Errorf("%d rejections are told", got)
	}
	if last := told[len(told)-1]; last.Proxy != pod("b") {
		t.Errorf("the last is %+v", last)
	}
	if m := told[0].Message; len(m) > 1024 || !utf8.ValidString(m) {
		t.Errorf("a message of %d bytes: %q", len(m), m)
	}
	if got := len(s.log.String()); got > 100_000 {
		t.Errorf("%d bytes in the log", got)
	}
}
