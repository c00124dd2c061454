package serve

import "testing"

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
