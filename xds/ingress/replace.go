package ingress

import (
	"reflect"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// This file says what an event concerns. A nil projection stands for an object that is not there.

func (g *Gateway) replaceIngress(o mesh.Object, next *ingress) {
	previous := g.ingresses[o]
	if reflect.DeepEqual(previous, next) {
		return
	}
	if previous != nil {
		g.withdraw(previous)
		g.ofClass.remove(previous.class, o)
	}
	set(g.ingresses, o, next)
	if next != nil {
		g.ofClass.add(next.class, o)
		if g.serves(next) {
			g.admit(next)
		}
	}
	g.dirtyProblems[o] = struct{}{}
}

// serves reports whether the Ingress is the gateway's.
func (g *Gateway) serves(i *ingress) bool {
	if i.class == "" {
		return !g.config.ClassRequired
	}
	controller, known := g.classes[i.class]
	return known && controller == g.config.Controller
}

func (g *Gateway) replaceClass(name, controller string) {
	if g.classes[name] == controller {
		return
	}
	g.classes[name] = controller
	if controller == "" {
		delete(g.classes, name)
	}
	if name == "" {
		return
	}
	for o := range g.ofClass[name] {
		i := g.ingresses[o]
		g.withdraw(i)
		if g.serves(i) {
			g.admit(i)
		}
		g.dirtyProblems[o] = struct{}{}
	}
}

// admit lets an Ingress claim what it names.
func (g *Gateway) admit(i *ingress) {
	for host := range i.rules {
		g.rulesOf.add(host, i.object)
		g.dirtyHosts[host] = struct{}{}
	}
	for _, t := range i.tls {
		g.tlsOf.add(t.host, i.object)
		g.dirtyTLS[t.host], g.dirtyHosts[t.host] = struct{}{}, struct{}{}
	}
}

// withdraw takes that back. It does nothing for an Ingress that was not admitted.
func (g *Gateway) withdraw(i *ingress) {
	for host := range i.rules {
		g.rulesOf.remove(host, i.object)
		g.dirtyHosts[host] = struct{}{}
	}
	for _, t := range i.tls {
		g.tlsOf.remove(t.host, i.object)
		g.dirtyTLS[t.host], g.dirtyHosts[t.host] = struct{}{}, struct{}{}
	}
}

func (g *Gateway) replaceSecret(o mesh.Object, next *secret) {
	previous := g.secrets[o]
	if previous != nil && next != nil && previous.equal(next) {
		return
	}
	set(g.secrets, o, next)
	delete(g.refused, o)
	g.dirtyCertificates[o] = struct{}{}
}

// replaceHost keeps what depends on a host.
func (g *Gateway) replaceHost(name string, previous, next *Host) {
	for _, r := range previous.all() {
		g.hostsWith.remove(r.Backend, name)
		g.dirtyBackends[r.Backend] = struct{}{}
	}
	for _, r := range next.all() {
		g.hostsWith.add(r.Backend, name)
		g.dirtyBackends[r.Backend] = struct{}{}
	}
	set(g.hosts, name, next)
	if previous != nil && next != nil {
		return
	}
	// A wildcard's certificate is for the hosts that there are.
	g.touchCertificateOf(name)
	g.place(name)
}

// place keeps which hosts there are below a wildcard: of rules and of tls.
func (g *Gateway) place(name string) {
	wildcard := wildcardOf(name)
	if wildcard == "" {
		return
	}
	_, secured := g.secretOf[name]
	if g.hosts[name] != nil || secured {
		g.below.add(wildcard, name)
	} else {
		g.below.remove(wildcard, name)
	}
}

// touchCertificateOf marks the certificates by which a host is asked for.
func (g *Gateway) touchCertificateOf(host string) {
	for _, name := range []string{host, wildcardOf(host)} {
		if secret, ok := g.secretOf[name]; ok {
			g.dirtyCertificates[secret] = struct{}{}
		}
	}
}

// all are the routes of a host; none if it is not there.
func (h *Host) all() []Route {
	if h == nil {
		return nil
	}
	return append(h.Routes[:len(h.Routes):len(h.Routes)], h.Deeper...)
}
