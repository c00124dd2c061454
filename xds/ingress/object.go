package ingress

import (
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
	rules    []rule
	tls      []tls
	problems []label.Problem
}

// A rule is one path of one host.
type rule struct {
	host    string
	path    string
	match   Match
	backend target
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
	return label.Problem{Subject: label.Field, Key: key, Value: value, Reason: reason, InForce: inForce}
}

func project(i *networkingv1.Ingress, defaultCertificate mesh.Object) *ingress {
	p := &ingress{object: object(Ingress, i.Namespace, i.Name), created: i.CreationTimestamp.Unix()}
	p.class = i.Annotations[ClassAnnotation]
	if i.Spec.IngressClassName != nil {
		p.class = *i.Spec.IngressClassName
	}
	p.options, p.problems = label.ParseIngress(i.Annotations)
	p.addRules(i)
	p.addTLS(i, defaultCertificate)
	return p
}

func (p *ingress) addRules(i *networkingv1.Ingress) {
	hosts := map[string]bool{}
	for _, r := range i.Spec.Rules {
		host := strings.ToLower(r.Host)
		hosts[host] = true
		if r.HTTP == nil { // all paths of the host, to the default backend
			continue
		}
		for _, path := range r.HTTP.Paths {
			p.addPath(host, path)
		}
	}
	if i.Spec.DefaultBackend == nil {
		return
	}
	if len(hosts) == 0 {
		hosts[""] = true
	}
	to, problem := p.target(i.Spec.DefaultBackend)
	if problem != "" {
		p.problems = append(p.problems, field("spec.defaultBackend", "", problem, "the answer is 503"))
	}
	for _, host := range slices.Sorted(maps.Keys(hosts)) {
		p.rules = append(p.rules, rule{host: host, match: Default, backend: to})
	}
}

func (p *ingress) addPath(host string, path networkingv1.HTTPIngressPath) {
	text, match, err := parsePath(path.Path, path.PathType)
	if err != nil {
		p.problems = append(p.problems, field("spec.rules", cmp.Or(host, "*")+path.Path, err.Error(), "the path is not served"))
		return
	}
	r := rule{host: host, path: text, match: match}
	var problem string
	if r.backend, problem = p.target(&path.Backend); problem != "" {
		p.problems = append(p.problems, field("spec.rules", r.text(), problem, "the answer is 503"))
	}
	p.rules = append(p.rules, r)
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
func (p *ingress) addTLS(i *networkingv1.Ingress, defaultCertificate mesh.Object) {
	seen := map[string]bool{}
	for _, entry := range i.Spec.TLS {
		secret := object(Secret, i.Namespace, entry.SecretName)
		if entry.SecretName == "" && defaultCertificate != (mesh.Object{}) {
			secret = defaultCertificate
		}
		hosts := entry.Hosts
		if len(hosts) == 0 {
			hosts = ruleHosts(i)
		}
		if len(hosts) == 0 {
			p.problems = append(p.problems, field("spec.tls", entry.SecretName, "neither the entry nor a rule names a host", "it is no host's certificate"))
		}
		for _, host := range hosts {
			host = strings.ToLower(host)
			if seen[host] {
				continue // the first entry has it
			}
			seen[host] = true
			if reason := unservable(host); reason != "" {
				p.problems = append(p.problems, field("spec.tls", host, reason, "it has no certificate"))
				continue
			}
			p.tls = append(p.tls, tls{host: host, secret: secret})
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
}

func projectSecret(s *corev1.Secret) *secret {
	return &secret{chain: s.Data[corev1.TLSCertKey], key: s.Data[corev1.TLSPrivateKeyKey]}
}

// String keeps the key out of whatever prints it.
func (s *secret) String() string { return fmt.Sprintf("a certificate of %d bytes", len(s.chain)) }
