package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// This file says which certificate a host has, and what is in it.

// computeTLS decides whose certificate a host has.
func (g *Gateway) computeTLS(host string) {
	var (
		winner   *ingress
		has      mesh.Object
		by       []string
		problems = map[mesh.Object][]label.Problem{}
	)
	for _, i := range g.byAge(g.tlsOf[host]) {
		wants := i.secretOf[host]
		if winner == nil {
			winner, has = i, wants
		}
		if wants == has {
			by = append(by, i.object.Namespace)
		} else {
			problems[i.object] = []label.Problem{field("spec.tls", host, fmt.Sprintf("the older %s has it", winner.object), "the certificate of "+has.String()+", or the gateway's own while that cannot be used")}
		}
	}
	g.keepProblems(g.tlsProblems, host, problems)
	slices.Sort(by)
	by = slices.Compact(by)
	previous := g.secretOf[host]
	if previous == has && slices.Equal(g.securedBy[host], by) {
		return
	}
	if g.securedBy[host] != nil {
		g.secretHosts.remove(previous, host)
		g.dirtyCertificates[previous] = struct{}{}
		delete(g.secretOf, host)
		delete(g.securedBy, host)
	}
	if winner != nil {
		g.secretHosts.add(has, host)
		g.dirtyCertificates[has] = struct{}{}
		g.secretOf[host] = has
		g.securedBy[host] = by
	}
	// Plain requests for the host are redirected or not, and a wildcard's certificate is for it or not.
	g.touchCertificateOf(host)
	g.dirtyHosts[host] = struct{}{}
	for below := range g.below[host] {
		g.dirtyHosts[below] = struct{}{}
	}
	g.place(host)
}

// secured returns the namespaces whose Ingresses let clients ask for a host with TLS; none if they cannot.
func (g *Gateway) secured(host string) []string {
	if by := g.securedBy[host]; by != nil {
		return by
	}
	return g.securedBy[wildcardOf(host)]
}

// computeCertificate returns nil for a Secret that no host has.
func (g *Gateway) computeCertificate(o mesh.Object, now time.Time) *Certificate {
	hosts := slices.Sorted(maps.Keys(g.secretHosts[o]))
	if len(hosts) == 0 && o != g.config.DefaultCertificate {
		delete(g.parsed, o)
		g.keepCertificateProblem(o, certificateProblem{})
		return nil
	}
	c := &Certificate{Secret: o, Hosts: hosts, Domains: g.domains(hosts)}
	read, err := g.read(o, now)
	if err != nil {
		g.keepCertificateProblem(o, certificateProblem{reason: err.Error()})
		return c
	}
	c.Pair = read.pair
	var problem certificateProblem
	for _, host := range hosts {
		if !read.covers(host) {
			problem.uncovered = append(problem.uncovered, host)
		}
	}
	g.keepCertificateProblem(o, problem)
	return c
}

// read returns the certificate of a Secret, if it is good now.
func (g *Gateway) read(o mesh.Object, now time.Time) (*certificate, error) {
	s := g.secrets[o]
	if s == nil {
		delete(g.parsed, o)
		return nil, missing(o)
	}
	p := g.parsed[o]
	if p.from != s {
		p = parsedSecret{from: s}
		p.certificate, p.err = s.parse()
	}
	var err error
	if p.err == nil {
		p.until, err = p.certificate.check(now)
	}
	g.parsed[o] = p
	if g.refused[o] != nil {
		return nil, errRefused
	}
	return p.certificate, cmp.Or(p.err, err)
}

// errRefused is in our words: Envoy's are in the log of whoever installed it.
var errRefused = errors.New("the gateway's Envoy refuses the certificate; the control plane's log says why")

func missing(o mesh.Object) error {
	if o.Name == "" {
		return fmt.Errorf("it names no Secret, and the gateway has no default certificate")
	}
	return fmt.Errorf("there is no %s of type kubernetes.io/tls", o)
}

// domains are what a certificate is for: its hosts, and below a wildcard the hosts of rules without their own certificate.
func (g *Gateway) domains(hosts []string) []string {
	list := slices.Clone(hosts)
	for _, host := range hosts {
		for below := range g.below[host] {
			if _, own := g.secretOf[below]; !own {
				list = append(list, below)
			}
		}
	}
	slices.Sort(list)
	return list
}
