package ingress

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// byAge returns Ingresses, the oldest first.
func (g *Gateway) byAge(objects map[mesh.Object]struct{}) []*ingress {
	var list []*ingress
	for o := range objects {
		list = append(list, g.ingresses[o])
	}
	slices.SortFunc(list, (*ingress).compare)
	return list
}

// A computation is of one host.
type computation struct {
	gateway  *Gateway
	ports    Ports
	host     string
	problems map[mesh.Object][]label.Problem
	services map[mesh.Object]struct{}
}

// computeHost returns nil for a host for which there is nothing. Those that it has routes of are to be computed before.
func (g *Gateway) computeHost(name string, ports Ports) *Host {
	c := computation{g, ports, name, map[mesh.Object][]label.Problem{}, map[mesh.Object]struct{}{}}
	routes := c.routes()
	defer func() { g.keepProblems(g.hostProblems, name, c.problems) }()
	g.keepServices(name, c.services)
	if len(routes) == 0 {
		routes = c.borrowed()
	}
	if len(routes) == 0 {
		return nil
	}
	h := &Host{Name: name, Routes: routes}
	by := g.secured(name)
	h.Secure = by != nil
	if name == "" {
		return h
	}
	// What the host leaves, the default backend of all hosts takes; but no namespace gets another's requests.
	all := g.hosts[""].all()
	if last := len(all) - 1; last >= 0 && all[last].Match == Default && routes[len(routes)-1].Match != Default && sameNamespace(routes, all[last]) {
		h.Routes = append(h.Routes, all[last])
	}
	if strings.HasPrefix(name, "*.") {
		h.Deeper = c.deeper(all)
	}
	// Any namespace can name any host in its tls: that does not redirect another's requests.
	for i := range h.Routes {
		h.Routes[i].Secure = slices.Contains(by, h.Routes[i].Ingress.Namespace)
	}
	return h
}

func sameNamespace(routes []Route, other Route) bool {
	return slices.ContainsFunc(routes, func(r Route) bool { return r.Ingress.Namespace == other.Ingress.Namespace })
}

// borrowed are the routes of a host that has a certificate and no rule: those that answer for it otherwise.
func (c computation) borrowed() []Route {
	g := c.gateway
	if _, secured := g.secretOf[c.host]; !secured {
		return nil
	}
	for _, name := range []string{wildcardOf(c.host), ""} {
		other := g.hosts[name]
		if other == nil {
			continue
		}
		i := g.byAge(g.tlsOf[c.host])[0]
		if i.repeats(other.Routes) {
			return slices.Clone(other.Routes)
		}
		c.tooMany("spec.tls", i, name, "the answer is 503")
		return []Route{{Ingress: i.object, Match: Default}}
	}
	return nil
}

// deeper are the routes of the Host without a name where a wildcard can have them, too.
func (c computation) deeper(all []Route) []Route {
	key, claims := "spec.rules", c.gateway.rulesOf[c.host]
	if len(claims) == 0 {
		key, claims = "spec.tls", c.gateway.tlsOf[c.host]
	}
	i := c.gateway.byAge(claims)[0]
	if i.repeats(all) {
		return all
	}
	c.tooMany(key, i, "", "names of more labels get 404")
	return nil
}

// tooMany tells an Ingress that its host cannot have another's routes.
func (c computation) tooMany(key string, i *ingress, other, inForce string) {
	reason := fmt.Sprintf("the paths of host %s answer for it, too, and are too many for each of the %d hosts of the Ingress to have them: "+
		"write rules for this host, or divide the Ingress", cmp.Or(other, "*"), i.hosts)
	c.problems[i.object] = append(c.problems[i.object], field(key, c.host, reason, inForce))
}

// keepServices stores to which Services the rules of a host lead.
func (g *Gateway) keepServices(host string, next map[mesh.Object]struct{}) {
	for service := range g.servicesOf[host] {
		g.hostsTo.remove(service, host)
	}
	for service := range next {
		g.hostsTo.add(service, host)
	}
	g.servicesOf[host] = next
	if len(next) == 0 {
		delete(g.servicesOf, host)
	}
}

// routes returns those of the rules of a host, in the order in which they are tried.
func (c computation) routes() []Route {
	type place struct {
		path  string
		match Match
	}
	var (
		routes []Route
		taken  = map[place]mesh.Object{}
	)
	by := c.gateway.secured(c.host)
	for _, i := range c.gateway.byAge(c.gateway.rulesOf[c.host]) {
		if by != nil && !slices.Contains(by, i.object.Namespace) {
			c.problems[i.object] = append(c.problems[i.object], field("spec.rules", c.host,
				"the host's certificate is of an Ingress of another namespace", "plain requests are not redirected"))
		}
		for _, r := range i.rules[c.host] {
			by, lost := taken[place{r.path, r.match}]
			if lost {
				c.tell(i, r, lostTo(by, i.object), "the backend of "+by.String())
				continue
			}
			taken[place{r.path, r.match}] = i.object
			routes = append(routes, c.route(i, r))
		}
	}
	slices.SortFunc(routes, Route.compare)
	return routes
}

func lostTo(by, loser mesh.Object) string {
	if by == loser {
		return "the path is there twice"
	}
	return fmt.Sprintf("the older %s has the path", by)
}

func (c computation) tell(i *ingress, r rule, reason, inForce string) {
	key := "spec.rules"
	if r.match == Default {
		key = "spec.defaultBackend"
	}
	c.problems[i.object] = append(c.problems[i.object], field(key, r.text(), reason, inForce))
}

func (c computation) route(i *ingress, r rule) Route {
	route := Route{Ingress: i.object, Path: r.path, Match: r.match, Options: i.options}
	if r.closed {
		route.Options.Sources = nil
	}
	if r.backend.service == (mesh.Object{}) {
		return route
	}
	c.services[r.backend.service] = struct{}{}
	port, err := c.ports.Backend(r.backend.service, r.backend.name, r.backend.number)
	if err != nil {
		c.tell(i, r, err.Error(), "the answer is 503")
		return route
	}
	route.Backend = BackendKey{Service: port.Owner, Port: port.Number, Upstream: upstream(i.options, port.Protocol)}
	s := port.Settings
	route.Settings = label.Settings{
		Balancing: s.Balancing, Tracing: s.Tracing, RequestTimeout: s.RequestTimeout, Retries: s.Retries,
	}
	return route
}

// upstream is what the Ingress says, or else the label.
func upstream(o label.IngressSettings, p label.Protocol) label.Upstream {
	switch {
	case o.Upstream != 0:
		return o.Upstream
	case p == label.HTTP2:
		return label.UpstreamHTTP2
	}
	return label.UpstreamHTTP
}

// compare orders routes: exact paths, then the longest, the default last.
func (r Route) compare(other Route) int {
	rank := func(r Route) int {
		switch r.Match {
		case Exact:
			return 0
		case Prefix, TextPrefix:
			return 1
		case Default:
		}
		return 2
	}
	return cmp.Or(
		cmp.Compare(rank(r), rank(other)),
		cmp.Compare(len(other.Path), len(r.Path)),
		cmp.Compare(r.Match, other.Match),
		strings.Compare(r.Path, other.Path),
	)
}

func (k BackendKey) compare(other BackendKey) int {
	return cmp.Or(k.Service.Compare(other.Service), cmp.Compare(k.Port, other.Port), cmp.Compare(k.Upstream, other.Upstream))
}
