package ingress

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// This file says what is taken from Kubernetes objects. Two objects with equal projections are the same here.

// Kinds of objects.
const (
	Ingress      = "Ingress"
	IngressClass = "IngressClass"
	Secret       = "Secret"
)

// ClassAnnotation names the class of an Ingress where spec.ingressClassName does not: some programs, such as older solvers
// of ACME, still write it.
const ClassAnnotation = "kubernetes.io/ingress.class"

type ingress struct {
	object   mesh.Object
	created  int64 // seconds
	class    string
	options  label.IngressSettings
	rules    map[string][]rule // by host, as written
	tls      []tls             // a host once
	secretOf map[string]mesh.Object
	hosts    int // how many of them there are, of rules and tls
	problems []label.Problem
}

// A rule is one path of one host.
type rule struct {
	host    string
	path    string
	match   Match
	backend target
	closed  bool // nobody is let in
}

// text is how its author would name it.
func (r rule) text() string {
	host := cmp.Or(r.host, "*")
	if r.match == Default {
		return host + " default backend"
	}
	return host + r.path
}

// A target is what a rule leads to, as it says it.
type target struct {
	service mesh.Object
	name    string // of the port, or its
	number  int32
}

// tls says that a host has a certificate.
type tls struct {
	host   string
	secret mesh.Object
}

func object(kind, namespace, name string) mesh.Object {
	return mesh.Object{Kind: kind, Namespace: namespace, Name: name}
}

func field(key, value, reason, inForce string) label.Problem {
	return label.Problem{Subject: label.Field, Key: key, Value: label.Shortened(value), Reason: reason, InForce: inForce}
}

func project(i *networkingv1.Ingress, defaultCertificate mesh.Object) *ingress {
	p := &ingress{
		object: object(Ingress, i.Namespace, i.Name), created: i.CreationTimestamp.Unix(),
		rules: map[string][]rule{}, secretOf: map[string]mesh.Object{},
	}
	p.class = i.Annotations[ClassAnnotation]
	if i.Spec.IngressClassName != nil {
		p.class = *i.Spec.IngressClassName
	}
	p.options, p.problems = label.ParseIngress(i.Annotations)
	b := newBounds(p.options)
	p.addRules(i, b)
	p.addTLS(i, defaultCertificate, b)
	p.hosts = min(b.hosts.n, maxHosts)
	p.problems = append(p.problems, b.problems()...)
	return p
}

func (p *ingress) addRules(i *networkingv1.Ingress, b *bounds) {
	hosts := map[string]bool{}
	for _, r := range i.Spec.Rules {
		host := strings.ToLower(r.Host)
		if !b.takesHost("spec.rules", host) {
			continue
		}
		hosts[host] = true
		if r.HTTP == nil { // all paths of the host, to the default backend
			continue
		}
		for _, path := range r.HTTP.Paths {
			p.addPath(host, path, b)
		}
	}
	if i.Spec.DefaultBackend == nil {
		return
	}
	if len(i.Spec.Rules) == 0 {
		hosts[""] = true
	}
	to, problem := p.target(i.Spec.DefaultBackend)
	if problem != "" {
		p.problems = append(p.problems, field("spec.defaultBackend", "", problem, "the answer is 503"))
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		r := rule{host: host, match: Default}
		var taken bool
		if taken, r.closed = b.takesPath("spec.defaultBackend", r.text()); taken {
			r.backend = b.boundTarget(to, "spec.defaultBackend", r.text())
			p.rules[host] = append(p.rules[host], r)
		}
	}
}

func (p *ingress) addPath(host string, path networkingv1.HTTPIngressPath, b *bounds) {
	named := cmp.Or(host, "*") + path.Path
	taken, closed := b.takesPath("spec.rules", named)
	if !taken {
		return
	}
	text, match, err := parsePath(path.Path, path.PathType)
	if err != nil {
		p.problems = append(p.problems, field("spec.rules", named, err.Error(), "the path is not served"))
		return
	}
	if !b.text.takes(len(text), "spec.rules", named) {
		return
	}
	r := rule{host: host, path: text, match: match, closed: closed}
	var problem string
	if r.backend, problem = p.target(&path.Backend); problem != "" {
		p.problems = append(p.problems, field("spec.rules", r.text(), problem, "the answer is 503"))
	}
	r.backend = b.boundTarget(r.backend, "spec.rules", named)
	p.rules[host] = append(p.rules[host], r)
}

// target is zero for what is no Service.
func (p *ingress) target(b *networkingv1.IngressBackend) (target, string) {
	if b.Service == nil {
		return target{}, "the gateway sends requests to Services only"
	}
	return target{
		service: object(string(label.Service), p.object.Namespace, b.Service.Name),
		name:    b.Service.Port.Name, number: b.Service.Port.Number,
	}, ""
}

// addTLS takes the hosts of its rules where an entry names none.
func (p *ingress) addTLS(i *networkingv1.Ingress, defaultCertificate mesh.Object, b *bounds) {
	all := false
	for _, entry := range i.Spec.TLS {
		secret := object(Secret, i.Namespace, entry.SecretName)
		hosts := entry.Hosts
		if len(hosts) == 0 {
			if all {
				continue // an entry before has them
			}
			hosts, all = ruleHosts(i), true
		}
		if len(hosts) == 0 {
			p.problems = append(p.problems, field("spec.tls", entry.SecretName, "neither the entry nor a rule names a host", "it is no host's certificate"))
		}
		for _, host := range hosts {
			host = strings.ToLower(host)
			if _, seen := p.secretOf[host]; seen || !b.takesHost("spec.tls", host) {
				continue // the first entry has it
			}
			p.secretOf[host] = mesh.Object{}
			if reason := unservable(host); reason != "" {
				p.problems = append(p.problems, field("spec.tls", host, reason, "it has no certificate"))
				continue
			}
			t := tls{host: host, secret: defaultCertificate}
			if entry.SecretName != "" || defaultCertificate == (mesh.Object{}) {
				t.secret = b.boundSecret(secret)
			}
			p.tls = append(p.tls, t)
			p.secretOf[host] = t.secret
		}
	}
}

func ruleHosts(i *networkingv1.Ingress) []string {
	var hosts []string
	for _, r := range i.Spec.Rules {
		if r.Host != "" {
			hosts = append(hosts, r.Host)
		}
	}
	return hosts
}

// unservable says why no client can ask for the host. The API server refuses most of it, in tls as in rules; the rest would
// be a server name that stands for others' hosts, or for none.
func unservable(host string) string {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case host == "*" || host == "":
		return "a certificate needs a host, or a wildcard of one label"
	case strings.ContainsAny(name, "*:/ ") || strings.HasPrefix(name, ".") || strings.HasSuffix(name, "."):
		return "this is no host name"
	}
	return ""
}

// wildcardOf returns the wildcard that stands for a host, or "" if there is none.
func wildcardOf(host string) string {
	_, parent, ok := strings.Cut(host, ".")
	if !ok || strings.HasPrefix(host, "*") {
		return ""
	}
	return "*." + parent
}

// compare orders Ingresses by age: the first has what both claim.
func (p *ingress) compare(other *ingress) int {
	return cmp.Or(cmp.Compare(p.created, other.created), p.object.Compare(other.object))
}

// secret is the content of a Secret of type kubernetes.io/tls.
type secret struct {
	chain, key []byte
	// tooLarge is how many bytes they have, if these were too many to keep.
	tooLarge []byte
}

func projectSecret(s *corev1.Secret) *secret {
	data := SecretData(s.Data)
	return &secret{chain: data[corev1.TLSCertKey], key: data[corev1.TLSPrivateKeyKey], tooLarge: data[tooLarge]}
}

func (s *secret) equal(other *secret) bool {
	return bytes.Equal(s.chain, other.chain) && bytes.Equal(s.key, other.key) && bytes.Equal(s.tooLarge, other.tooLarge)
}

// parse reads the certificate.
func (s *secret) parse() (*certificate, error) {
	if s.tooLarge != nil {
		return nil, fmt.Errorf("tls.crt and tls.key have %s bytes together, and may have %d: leave out what is not of the certificate's chain", s.tooLarge, maxSecret)
	}
	return parseCertificate(s.chain, s.key)
}

// String keeps the key out of whatever prints it.
func (s *secret) String() string { return fmt.Sprintf("a certificate of %d bytes", len(s.chain)) }
