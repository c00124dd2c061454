package ingress

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A world is a mesh and the gateway beside it.
type world struct {
	mesh    *mesh.Mesh
	gateway *Gateway
}

func newWorld(c Config) world { return world{mesh.New(mesh.Config{}), New(c)} }

func (w world) flush(now time.Time) Changes {
	return w.gateway.Flush(now, w.mesh, w.mesh.Flush().Services)
}

func (w world) remove(o mesh.Object) {
	if o.Kind == "Service" {
		w.mesh.Delete(o)
	} else {
		w.gateway.Delete(o)
	}
}

// known is what a gateway has told.
type known struct {
	Hosts        map[string]*Host
	Backends     map[BackendKey]*mesh.Port
	Certificates map[mesh.Object]*Certificate
	Problems     map[mesh.Object][]label.Problem
	Served       map[mesh.Object]bool
}

func newKnown() known {
	return known{map[string]*Host{}, map[BackendKey]*mesh.Port{}, map[mesh.Object]*Certificate{}, map[mesh.Object][]label.Problem{}, map[mesh.Object]bool{}}
}

func (k known) apply(c Changes) {
	for _, change := range c.Hosts {
		set(k.Hosts, change.Name, change.Host)
	}
	for _, change := range c.Backends {
		set(k.Backends, change.Key, change.Port)
	}
	for _, change := range c.Certificates {
		set(k.Certificates, change.Secret, change.Certificate)
	}
	for _, change := range c.Served {
		k.Served[change.Ingress] = true
		if !change.Served {
			delete(k.Served, change.Ingress)
		}
	}
	for _, change := range c.Problems {
		k.Problems[change.Object] = change.Problems
		if len(change.Problems) == 0 {
			delete(k.Problems, change.Object)
		}
	}
}

const controller = "traffic/ingress"

// TestIncrementalEqualsRebuild plays any sequence of events to one gateway, and all objects that there are to another: what
// clients get never depends on what was before.
func TestIncrementalEqualsRebuild(t *testing.T) {
	pairs := drawnPairs(t)
	rapid.Check(t, func(t *rapid.T) {
		var (
			config   = Config{Controller: controller, ClassRequired: rapid.Bool().Draw(t, "classRequired")}
			existing = map[mesh.Object]func(world){}
			told     = newKnown()
			now      = noon
		)
		if rapid.Bool().Draw(t, "default") {
			config.DefaultCertificate = object(Secret, "a", "s1")
		}
		w := newWorld(config)
		for range rapid.IntRange(10, 60).Draw(t, "events") {
			o := drawObject(t)
			if rapid.IntRange(0, 4).Draw(t, "what") == 0 {
				w.remove(o)
				delete(existing, o)
			} else {
				existing[o] = drawContent(t, o, pairs)
				existing[o](w)
			}
			if rapid.IntRange(0, 8).Draw(t, "time") == 0 {
				now = now.Add(5 * time.Hour)
			}
			if rapid.IntRange(0, 2).Draw(t, "more") > 0 {
				told.apply(w.flush(now))
				checkRebuilt(t, config, existing, told, now)
			}
		}
		told.apply(w.flush(now))
		checkRebuilt(t, config, existing, told, now)
		if next := w.gateway.Next(); !next.IsZero() && !next.After(now) {
			t.Fatalf("at %v it says that something changes at %v", now, next)
		}
		for o, again := range existing {
			again(w)
			if c := w.flush(now); !cmp.Equal(c, Changes{}) {
				t.Fatalf("%s came again as it was, and changed %+v", o, c)
			}
		}
		for o := range existing {
			w.remove(o)
		}
		w.flush(now)
		checkEmpty(t, w.gateway)
	})
}

func checkRebuilt(t *rapid.T, config Config, existing map[mesh.Object]func(world), told known, now time.Time) {
	w := newWorld(config)
	objects := slices.SortedFunc(maps.Keys(existing), mesh.Object.Compare)
	if rapid.Bool().Draw(t, "backwards") {
		slices.Reverse(objects)
	}
	for _, o := range objects {
		existing[o](w)
	}
	want := newKnown()
	want.apply(w.flush(now))
	if diff := cmp.Diff(want, told, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Fatalf("after events (+) it is not as from scratch (-):\n%s", diff)
	}
	checkReferences(t, told)
}

// checkReferences: a route or virtual host that names what is not there would be refused by Envoy.
func checkReferences(t *rapid.T, k known) {
	for _, h := range k.Hosts {
		for _, r := range h.all() {
			if r.Backend != (BackendKey{}) && k.Backends[r.Backend] == nil {
				t.Fatalf("host %q leads to %v, which is not there", h.Name, r.Backend)
			}
		}
	}
	owners := map[string]mesh.Object{}
	for o, c := range k.Certificates {
		domains := map[string]bool{}
		for _, domain := range c.Domains {
			if domains[domain] {
				t.Fatalf("%s has domain %s twice", o, domain)
			}
			domains[domain] = true
		}
		for _, host := range c.Hosts {
			if other, twice := owners[host]; twice {
				t.Fatalf("%s has the certificates %s and %s", host, o, other)
			}
			owners[host] = o
		}
	}
}

// checkEmpty: what is gone must not be remembered, or a control plane grows for ever.
func checkEmpty(t *rapid.T, g *Gateway) {
	g.config = Config{}
	delete(g.certificates, object(Secret, "a", "s1"))
	delete(g.problems, object(Secret, "a", "s1"))
	delete(g.certificateProblems, object(Secret, "a", "s1"))
	for name, n := range map[string]int{
		"ingresses": len(g.ingresses), "classes": len(g.classes), "secrets": len(g.secrets), "ofClass": len(g.ofClass),
		"rulesOf": len(g.rulesOf), "tlsOf": len(g.tlsOf), "below": len(g.below), "hostsTo": len(g.hostsTo),
		"servicesOf": len(g.servicesOf), "hostsWith": len(g.hostsWith), "secretHosts": len(g.secretHosts),
		"secretOf": len(g.secretOf), "securedBy": len(g.securedBy), "parsed": len(g.parsed), "hosts": len(g.hosts), "backends": len(g.backends),
		"certificates": len(g.certificates), "problems": len(g.problems), "hostProblems": len(g.hostProblems),
		"tlsProblems": len(g.tlsProblems), "served": len(g.served), "refused": len(g.refused), "certificateProblems": len(g.certificateProblems),
	} {
		if n > 0 {
			t.Fatalf("%s remembers %d of nothing", name, n)
		}
	}
}

func drawObject(t *rapid.T) mesh.Object {
	kind := rapid.SampledFrom([]string{Ingress, Ingress, Ingress, IngressClass, Secret, "Service"}).Draw(t, "kind")
	namespace := rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")
	switch kind {
	case IngressClass:
		return object(kind, "", rapid.SampledFrom([]string{"c1", "c2"}).Draw(t, "name"))
	case Secret:
		return object(kind, namespace, rapid.SampledFrom([]string{"s1", "s2"}).Draw(t, "name"))
	case Ingress:
		return object(kind, namespace, rapid.SampledFrom([]string{"i1", "i2", "i3"}).Draw(t, "name"))
	}
	return object(kind, namespace, rapid.SampledFrom([]string{"w1", "w2"}).Draw(t, "name"))
}

func drawContent(t *rapid.T, o mesh.Object, pairs []secret) func(world) {
	meta := metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name}
	switch o.Kind {
	case IngressClass:
		c := &networkingv1.IngressClass{ObjectMeta: meta}
		c.Spec.Controller = rapid.SampledFrom([]string{controller, "another/one"}).Draw(t, "controller")
		return func(w world) { w.gateway.SetClass(c) }
	case Secret:
		pair := rapid.SampledFrom(pairs).Draw(t, "pair")
		s := &corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{corev1.TLSCertKey: pair.chain, corev1.TLSPrivateKeyKey: pair.key}}
		return func(w world) { w.gateway.SetSecret(s) }
	case Ingress:
		i := drawIngress(t, meta)
		return func(w world) { w.gateway.SetIngress(i) }
	}
	s := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Name: "web", Port: 80}}}}
	s.Labels = map[string]string{
		"traffic.port.80":         rapid.SampledFrom([]string{"", "http", "grpc", "tcp", "direct"}).Draw(t, "protocol"),
		"traffic.request.timeout": rapid.SampledFrom([]string{"", "1s"}).Draw(t, "timeout"),
	}
	if rapid.IntRange(0, 4).Draw(t, "external") == 0 {
		s.Spec.Type = corev1.ServiceTypeExternalName
	}
	return func(w world) { w.mesh.SetService(s) }
}

var (
	drawnHosts = []string{"", "a.example", "b.example", "c.b.example", "*.example", "*.b.example"}
	drawnPaths = []string{"", "/", "/a", "/a/", "/a/b", "/a?b", "/.well-known/acme-challenge/x"}
)

func drawIngress(t *rapid.T, meta metav1.ObjectMeta) *networkingv1.Ingress {
	i := &networkingv1.Ingress{ObjectMeta: meta}
	i.CreationTimestamp = metav1.Unix(int64(rapid.IntRange(1, 2).Draw(t, "created")), 0)
	i.Annotations = map[string]string{label.RedirectKey: rapid.SampledFrom([]string{"", "false", "x"}).Draw(t, "redirect")}
	if class := rapid.SampledFrom([]string{"", "c1", "c2", "c3"}).Draw(t, "class"); class != "" {
		i.Spec.IngressClassName = &class
	}
	if rapid.IntRange(0, 2).Draw(t, "default") == 0 {
		i.Spec.DefaultBackend = drawBackend(t)
	}
	for range rapid.IntRange(0, 2).Draw(t, "rules") {
		rule := networkingv1.IngressRule{Host: rapid.SampledFrom(drawnHosts).Draw(t, "host")}
		rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
		for range rapid.IntRange(0, 2).Draw(t, "paths") {
			kind := rapid.SampledFrom([]networkingv1.PathType{"Exact", "Prefix", "ImplementationSpecific"}).Draw(t, "type")
			rule.HTTP.Paths = append(rule.HTTP.Paths, networkingv1.HTTPIngressPath{
				Path: rapid.SampledFrom(drawnPaths).Draw(t, "path"), PathType: &kind, Backend: *drawBackend(t),
			})
		}
		i.Spec.Rules = append(i.Spec.Rules, rule)
	}
	for range rapid.IntRange(0, 2).Draw(t, "tls") {
		entry := networkingv1.IngressTLS{SecretName: rapid.SampledFrom([]string{"s1", "s2", ""}).Draw(t, "secret")}
		for range rapid.IntRange(0, 2).Draw(t, "hosts") {
			entry.Hosts = append(entry.Hosts, rapid.SampledFrom(drawnHosts).Draw(t, "host"))
		}
		i.Spec.TLS = append(i.Spec.TLS, entry)
	}
	return i
}

func drawBackend(t *rapid.T) *networkingv1.IngressBackend {
	service := &networkingv1.IngressServiceBackend{Name: rapid.SampledFrom([]string{"w1", "w2", "w3"}).Draw(t, "service")}
	service.Port = rapid.SampledFrom([]networkingv1.ServiceBackendPort{{Number: 80}, {Name: "web"}, {Number: 81}}).Draw(t, "port")
	return &networkingv1.IngressBackend{Service: service}
}

// drawnPairs are good, bad, and for other hosts.
func drawnPairs(t *testing.T) []secret {
	var pairs []secret
	for _, hosts := range [][]string{{"a.example", "*.example"}, {"*.b.example"}} {
		chain, key := newPair(t, newKey(t), hosts...)
		pairs = append(pairs, secret{chain: chain, key: key})
	}
	return append(pairs, secret{chain: pairs[0].chain, key: pairs[1].key}, secret{})
}

// TestEventConcernsItsKeys: one more Ingress must cost the same among ten hosts and among ten thousand.
func TestEventConcernsItsKeys(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	for n := range 50 {
		w.mesh.SetService(&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprint("w", n)},
			Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 80}}},
		})
		w.gateway.SetIngress(simple(n, "/"))
	}
	if c := w.flush(noon); len(c.Hosts) != 50 || len(c.Backends) != 50 {
		t.Fatalf("at first %d hosts, %d backends", len(c.Hosts), len(c.Backends))
	}
	w.gateway.SetIngress(simple(7, "/other"))
	if len(w.gateway.dirtyHosts) != 1 || len(w.gateway.dirtyTLS) != 1 {
		t.Errorf("an Ingress concerns %d hosts, %d certificates", len(w.gateway.dirtyHosts), len(w.gateway.dirtyTLS))
	}
	w.flush(noon)
	service := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "w7", Labels: map[string]string{"traffic.request.timeout": "1s"}},
		Spec:       corev1.ServiceSpec{ClusterIP: "10.96.0.1", Ports: []corev1.ServicePort{{Port: 80}}},
	}
	w.mesh.SetService(service)
	if c := w.flush(noon); len(c.Hosts) != 1 || len(c.Backends) != 1 || len(c.Certificates) != 0 {
		t.Errorf("a label of a Service changes %+v", c)
	}
}

// simple is an Ingress with a host and a Service of that number.
func simple(n int, path string) *networkingv1.Ingress {
	kind, host := networkingv1.PathTypePrefix, fmt.Sprintf("h%d.example", n)
	return &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: fmt.Sprint("i", n)},
		Spec: networkingv1.IngressSpec{
			TLS: []networkingv1.IngressTLS{{Hosts: []string{host}, SecretName: fmt.Sprint("s", n)}},
			Rules: []networkingv1.IngressRule{{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{Path: path, PathType: &kind, Backend: networkingv1.IngressBackend{
					Service: &networkingv1.IngressServiceBackend{Name: fmt.Sprint("w", n), Port: networkingv1.ServiceBackendPort{Number: 80}},
				}}},
			}}}},
		},
	}
}

// TestWildcardCertificate: a certificate that comes with another Ingress, for a wildcard, secures the hosts below it.
func TestWildcardCertificate(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	plain := simple(1, "/")
	plain.Spec.TLS = nil
	w.gateway.SetIngress(plain)
	w.flush(noon)
	if w.gateway.hosts["h1.example"].Secure {
		t.Fatal("secure without a certificate")
	}
	wild := simple(2, "/")
	wild.Spec.TLS[0].Hosts = []string{"*.example"}
	w.gateway.SetIngress(wild)
	w.flush(noon)
	if !w.gateway.hosts["h1.example"].Secure || !slices.Contains(w.gateway.certificates[object(Secret, "a", "s2")].Domains, "h1.example") {
		t.Error("the wildcard's certificate is not for the host")
	}
	w.remove(object(Ingress, "a", "i2"))
	w.flush(noon)
	if w.gateway.hosts["h1.example"].Secure {
		t.Error("still secure")
	}
}

// TestSharedDefaultCertificate: Ingresses of two namespaces that share a host and both name the default certificate for it agree
// about it. Plain requests of both are redirected to https, whichever is the older; those of a third, which names none, are not.
func TestSharedDefaultCertificate(t *testing.T) {
	for name, tls := range map[string]string{"the host": "h1.example", "a wildcard": "*.example"} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(Config{Controller: controller, DefaultCertificate: object(Secret, "system", "default")})
			made := func(namespace string, created int64, hosts ...string) {
				i := simple(1, "/"+namespace)
				i.Namespace, i.CreationTimestamp = namespace, metav1.Unix(created, 0)
				i.Spec.TLS = []networkingv1.IngressTLS{{Hosts: hosts}}
				if len(hosts) == 0 {
					i.Spec.TLS = nil
				}
				w.gateway.SetIngress(i)
			}
			check := func(want map[string]bool) {
				t.Helper()
				w.flush(noon)
				for _, r := range w.gateway.hosts["h1.example"].Routes {
					if secure := want[r.Ingress.Namespace]; r.Secure != secure {
						t.Errorf("requests of %s are redirected: %t", r.Ingress, r.Secure)
					}
					told := slices.ContainsFunc(w.gateway.Problems(r.Ingress), func(p label.Problem) bool { return p.InForce == "plain requests are not redirected" })
					if told == r.Secure {
						t.Errorf("%s is told: %t", r.Ingress, told)
					}
				}
			}
			made("c", 3)
			made("b", 2, tls)
			check(map[string]bool{"b": true})
			made("a", 1, tls)
			check(map[string]bool{"a": true, "b": true})
			made("b", 2)
			check(map[string]bool{"a": true})
			made("b", 2, tls)
			w.remove(object(Ingress, "a", "i1"))
			check(map[string]bool{"b": true})
		})
	}
}
