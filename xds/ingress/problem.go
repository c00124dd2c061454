package ingress

import (
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// keepProblems stores what a host's computation found, by Ingress.
func (g *Gateway) keepProblems(all map[string]map[mesh.Object][]label.Problem, host string, next map[mesh.Object][]label.Problem) {
	previous := all[host]
	for _, problems := range []map[mesh.Object][]label.Problem{previous, next} {
		for o := range problems {
			g.dirtyProblems[o] = struct{}{}
		}
	}
	all[host] = next
	if len(next) == 0 {
		delete(all, host)
	}
}

// keepCertificateProblem stores what is wrong with a Secret, of which every Ingress is told that names it for a host that
// has it.
func (g *Gateway) keepCertificateProblem(o mesh.Object, next certificateProblem) {
	g.certificateProblems[o] = next
	if reflect.DeepEqual(next, certificateProblem{}) {
		delete(g.certificateProblems, o)
	}
	if g.hasDefault() && o == g.config.DefaultCertificate {
		g.dirtyProblems[o] = struct{}{}
	}
	for host := range g.secretHosts[o] {
		for i := range g.tlsOf[host] {
			g.dirtyProblems[i] = struct{}{}
		}
	}
}

// flushServed tells of each Ingress whether the gateway serves it, when it comes and when that changes; all these are among
// those whose problems are to be computed.
func (g *Gateway) flushServed() []ServedChange {
	var changes []ServedChange
	for _, o := range slices.SortedFunc(maps.Keys(g.dirtyProblems), mesh.Object.Compare) {
		i := g.ingresses[o]
		was, known := g.served[o]
		is := i != nil && g.serves(i) && g.heeds(i)
		if o.Kind != Ingress || known == (i != nil) && was == is {
			continue
		}
		changes = append(changes, ServedChange{Ingress: o, Served: is})
		g.served[o] = is
		if i == nil {
			delete(g.served, o)
		}
	}
	return changes
}

// heeds reports whether the gateway does anything that an Ingress of its class says: older ones may have all its paths, or
// the certificates of all its hosts if it has no paths.
func (g *Gateway) heeds(i *ingress) bool {
	if len(i.rules) == 0 {
		return slices.ContainsFunc(i.tls, func(t tls) bool { return g.secretOf[t.host] == t.secret })
	}
	for host := range i.rules {
		if slices.ContainsFunc(g.hosts[host].all(), func(route Route) bool { return route.Ingress == i.object }) {
			return true
		}
	}
	return false
}

func (g *Gateway) flushProblems() []mesh.ProblemChange {
	var changes []mesh.ProblemChange
	for _, o := range slices.SortedFunc(maps.Keys(take(&g.dirtyProblems)), mesh.Object.Compare) {
		next := g.computeProblems(o)
		if reflect.DeepEqual(g.problems[o], next) {
			continue
		}
		g.problems[o] = next
		if len(next) == 0 {
			delete(g.problems, o)
		}
		changes = append(changes, mesh.ProblemChange{Object: o, Problems: next})
	}
	return changes
}

// computeProblems returns all that is wrong with an Ingress, or with the default certificate; nothing is wrong with
// Ingresses of others.
func (g *Gateway) computeProblems(o mesh.Object) []label.Problem {
	if p := g.certificateProblems[o]; o.Kind == Secret && p.reason != "" {
		return []label.Problem{field("tls.crt", "", p.reason, ownCertificate)}
	}
	i := g.ingresses[o]
	if i == nil || !g.serves(i) {
		return nil
	}
	problems := slices.Clone(i.problems)
	for host := range i.rules {
		problems = append(problems, g.hostProblems[host][o]...)
	}
	secrets := map[mesh.Object]bool{}
	for _, t := range i.tls {
		problems = append(problems, g.tlsProblems[t.host][o]...)
		if i.rules[t.host] == nil {
			problems = append(problems, g.hostProblems[t.host][o]...)
		}
		if g.secretOf[t.host] == t.secret && !secrets[t.secret] {
			secrets[t.secret] = true
			problems = append(problems, g.certificateProblemOf(i, t.secret)...)
		}
	}
	slices.SortStableFunc(problems, func(a, b label.Problem) int {
		return strings.Compare(a.Key+"\n"+a.Value, b.Key+"\n"+b.Value)
	})
	return problems
}

const ownCertificate = "a certificate of the gateway's own, which no client trusts"

// certificateProblemOf tells an Ingress what is wrong with its Secret.
func (g *Gateway) certificateProblemOf(i *ingress, secret mesh.Object) []label.Problem {
	p, wrong := g.certificateProblems[secret]
	switch {
	case !wrong, secret.Name == surplus: // of too many, it is told already
		return nil
	case p.reason != "":
		return []label.Problem{field("spec.tls", secret.Name, p.reason, ownCertificate)}
	}
	var problems []label.Problem
	for _, t := range i.tls {
		if _, uncovered := slices.BinarySearch(p.uncovered, t.host); uncovered && t.secret == secret {
			problems = append(problems, field("spec.tls", secret.Name, "the certificate is not for "+t.host, "the certificate, which clients will not trust"))
		}
	}
	return problems
}

// InForce returns the problems of a Service that are some in spite of the gateway: an Ingress opens its ports there, so that
// labels act that otherwise lack a port.
func (g *Gateway) InForce(service mesh.Object, problems []label.Problem) []label.Problem {
	if len(g.hostsTo[service]) == 0 {
		return problems
	}
	return slices.DeleteFunc(slices.Clone(problems), func(p label.Problem) bool { return p.Unused })
}
