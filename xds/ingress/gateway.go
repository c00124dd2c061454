package ingress

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// Config is what a person decides about the gateway.
type Config struct {
	// Controller is that of the IngressClasses whose Ingresses are served.
	Controller string
	// ClassRequired leaves out Ingresses without a class.
	ClassRequired bool
	// DefaultCertificate is the Secret of hosts whose Ingress names none; none if it has no name.
	DefaultCertificate mesh.Object
}

// Ports tells of the ports of Services, as mesh.Mesh does.
type Ports interface {
	// Backend returns a TCP port of a Service by its name, or else by its number; the error says why there is none.
	Backend(service mesh.Object, name string, number int32) (mesh.Port, error)
}

// A Gateway is what a gateway serves. It is owned by one goroutine.
type Gateway struct {
	config Config

	ingresses map[mesh.Object]*ingress
	classes   map[string]string // name -> controller
	secrets   map[mesh.Object]*secret

	ofClass     index[string, mesh.Object] // class -> Ingresses
	rulesOf     index[string, mesh.Object] // host -> served Ingresses with rules for it
	tlsOf       index[string, mesh.Object] // host -> served Ingresses with tls for it
	below       index[string, string]      // wildcard -> hosts of rules or tls that it is for
	hostsTo     index[mesh.Object, string] // Service -> hosts, whether or not the Service is there
	servicesOf  index[string, mesh.Object] // host -> Services
	hostsWith   index[BackendKey, string]  // backend -> hosts
	secretHosts index[mesh.Object, string] // Secret -> hosts of tls that have it

	// served has of each Ingress what was told.
	served map[mesh.Object]bool
	// refused are those contents of Secrets that Envoy refused.
	refused map[mesh.Object]*secret
	// secretOf has the Secret that each host of tls has.
	secretOf map[string]mesh.Object
	// securedBy has the namespaces of the Ingresses whose tls names that, sorted: several may name the default certificate.
	securedBy map[string][]string
	parsed    map[mesh.Object]parsedSecret

	// These are computed by the next Flush.
	dirtyTLS, dirtyHosts map[string]struct{}
	dirtyBackends        map[BackendKey]struct{}
	dirtyCertificates    map[mesh.Object]struct{}
	dirtyProblems        map[mesh.Object]struct{}
	hosts                map[string]*Host
	backends             map[BackendKey]*mesh.Port
	certificates         map[mesh.Object]*Certificate
	problems             map[mesh.Object][]label.Problem
	hostProblems         map[string]map[mesh.Object][]label.Problem
	tlsProblems          map[string]map[mesh.Object][]label.Problem
	certificateProblems  map[mesh.Object]certificateProblem
}

// A parsedSecret is a Secret that a host has, read once.
type parsedSecret struct {
	from        *secret
	certificate *certificate
	err         error
	// until is when it begins or ceases to be valid; zero for never.
	until time.Time
}

// A certificateProblem is what is wrong with a Secret; hosts are those that it does not cover.
type certificateProblem struct {
	reason    string
	uncovered []string
}

// New returns a gateway that serves nothing.
func New(c Config) *Gateway {
	g := &Gateway{
		config:    c,
		ingresses: map[mesh.Object]*ingress{}, classes: map[string]string{}, secrets: map[mesh.Object]*secret{},
		ofClass: index[string, mesh.Object]{}, rulesOf: index[string, mesh.Object]{}, tlsOf: index[string, mesh.Object]{},
		below: index[string, string]{}, hostsTo: index[mesh.Object, string]{}, servicesOf: index[string, mesh.Object]{}, hostsWith: index[BackendKey, string]{},
		secretHosts: index[mesh.Object, string]{},
		served:      map[mesh.Object]bool{}, refused: map[mesh.Object]*secret{}, secretOf: map[string]mesh.Object{}, securedBy: map[string][]string{}, parsed: map[mesh.Object]parsedSecret{},
		dirtyTLS: map[string]struct{}{}, dirtyHosts: map[string]struct{}{}, dirtyBackends: map[BackendKey]struct{}{},
		dirtyCertificates: map[mesh.Object]struct{}{}, dirtyProblems: map[mesh.Object]struct{}{},
		hosts: map[string]*Host{}, backends: map[BackendKey]*mesh.Port{}, certificates: map[mesh.Object]*Certificate{},
		problems: map[mesh.Object][]label.Problem{}, hostProblems: map[string]map[mesh.Object][]label.Problem{},
		tlsProblems: map[string]map[mesh.Object][]label.Problem{}, certificateProblems: map[mesh.Object]certificateProblem{},
	}
	if g.hasDefault() {
		g.dirtyCertificates[c.DefaultCertificate] = struct{}{}
	}
	return g
}

func (g *Gateway) hasDefault() bool { return g.config.DefaultCertificate != (mesh.Object{}) }

// SetIngress adds or replaces an Ingress.
func (g *Gateway) SetIngress(i *networkingv1.Ingress) {
	next := project(i, g.config.DefaultCertificate)
	g.replaceIngress(next.object, next)
}

// SetClass adds or replaces an IngressClass.
func (g *Gateway) SetClass(c *networkingv1.IngressClass) { g.replaceClass(c.Name, c.Spec.Controller) }

// SetSecret adds or replaces a Secret of type kubernetes.io/tls.
func (g *Gateway) SetSecret(s *corev1.Secret) {
	g.replaceSecret(object(Secret, s.Namespace, s.Name), projectSecret(s))
}

// RefuseSecret says that Envoy refused what the last Flush made of a Secret: until its content changes, it cannot be used.
func (g *Gateway) RefuseSecret(o mesh.Object) {
	if from := g.parsed[o].from; from != nil && from == g.secrets[o] {
		g.refused[o] = from
		g.dirtyCertificates[o] = struct{}{}
	}
}

// Delete removes an object of any of these kinds.
func (g *Gateway) Delete(o mesh.Object) {
	switch o.Kind {
	case Ingress:
		g.replaceIngress(o, nil)
	case IngressClass:
		g.replaceClass(o.Name, "")
	case Secret:
		g.replaceSecret(o, nil)
	}
}

// Flush computes what the events since the last call concern, those of Services among them, and what time has changed. It
// returns what is different now.
func (g *Gateway) Flush(now time.Time, ports Ports, services []mesh.Object) Changes {
	for _, service := range services {
		for host := range g.hostsTo[service] {
			g.dirtyHosts[host] = struct{}{}
			for _, r := range g.hosts[host].all() {
				if r.Backend.Service == service {
					g.dirtyBackends[r.Backend] = struct{}{}
				}
			}
		}
	}
	for secret, p := range g.parsed {
		if !p.until.IsZero() && !now.Before(p.until) {
			g.dirtyCertificates[secret] = struct{}{}
		}
	}
	for host := range take(&g.dirtyTLS) {
		g.computeTLS(host)
	}
	var c Changes
	c.Hosts = g.flushHosts(ports)
	c.Backends = g.flushBackends(ports)
	c.Certificates = g.flushCertificates(now)
	c.Served = g.flushServed()
	c.Problems = g.flushProblems()
	return c
}

// Next is when time alone will change something; zero if it will not.
func (g *Gateway) Next() time.Time {
	var next time.Time
	for _, p := range g.parsed {
		if !p.until.IsZero() && (next.IsZero() || p.until.Before(next)) {
			next = p.until
		}
	}
	return next
}

// Problems returns the problems of an Ingress as of the last Flush.
func (g *Gateway) Problems(o mesh.Object) []label.Problem { return g.problems[o] }

func (g *Gateway) flushHosts(ports Ports) []HostChange {
	var (
		changes []HostChange
		dirty   = take(&g.dirtyHosts)
	)
	compute := func(name string) (changed bool) {
		previous, next := g.hosts[name], g.computeHost(name, ports)
		if reflect.DeepEqual(previous, next) {
			return false
		}
		g.replaceHost(name, previous, next)
		changes = append(changes, HostChange{Name: name, Host: next})
		return true
	}
	// Hosts have routes of others: wildcards and the Host without a name come first.
	if _, all := dirty[""]; all && compute("") {
		for name := range g.hosts {
			dirty[name] = struct{}{}
		}
		for name := range g.secretOf {
			dirty[name] = struct{}{}
		}
	}
	delete(dirty, "")
	for _, name := range slices.Sorted(maps.Keys(dirty)) {
		if strings.HasPrefix(name, "*.") && compute(name) {
			maps.Copy(dirty, g.below[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(dirty)) {
		if !strings.HasPrefix(name, "*.") {
			compute(name)
		}
	}
	return changes
}

func (g *Gateway) flushBackends(ports Ports) []BackendChange {
	var changes []BackendChange
	for _, key := range slices.SortedFunc(maps.Keys(take(&g.dirtyBackends)), BackendKey.compare) {
		var next *mesh.Port
		if len(g.hostsWith[key]) > 0 {
			if p, err := ports.Backend(key.Service, "", int32(key.Port)); err == nil {
				next = &p
			}
		}
		if !reflect.DeepEqual(g.backends[key], next) {
			set(g.backends, key, next)
			changes = append(changes, BackendChange{Key: key, Port: next})
		}
	}
	return changes
}

func (g *Gateway) flushCertificates(now time.Time) []CertificateChange {
	var changes []CertificateChange
	for _, secret := range slices.SortedFunc(maps.Keys(take(&g.dirtyCertificates)), mesh.Object.Compare) {
		next := g.computeCertificate(secret, now)
		if !reflect.DeepEqual(g.certificates[secret], next) {
			set(g.certificates, secret, next)
			changes = append(changes, CertificateChange{Secret: secret, Certificate: next})
		}
	}
	return changes
}

// take returns a set and leaves an empty one.
func take[K comparable](dirty *map[K]struct{}) map[K]struct{} {
	taken := *dirty
	*dirty = map[K]struct{}{}
	return taken
}

// set puts a value into its map, or removes it when it is nil.
func set[K comparable, T any](values map[K]*T, key K, next *T) {
	if next == nil {
		delete(values, key)
		return
	}
	values[key] = next
}
