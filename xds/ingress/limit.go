package ingress

import (
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// This file bounds what one Ingress adds to a gateway that everybody shares: of one of 100 kB, Envoy could get 140 MB. The
// numbers are beyond what load balancers of clouds take (Google's: 50 hosts, 1,000 paths, 15 certificates), and beside the
// size of an Ingress, which the API server bounds, it is products that matter. Package label bounds the source ranges; how many
// Ingresses a namespace has is for its ResourceQuota.
const (
	// maxHosts are of rules and of tls together.
	maxHosts = 1000
	// maxPaths include the default backend, once for each host.
	maxPaths = 2000
	// maxBackends are ports of Services: each is a cluster of Envoy's, and each way to speak to it is another.
	maxBackends = 500
	// maxSecrets have a filter chain, a connection manager and a RouteConfiguration each.
	maxSecrets = 100
	// maxRepeated bounds products: of paths and source ranges, since each path has them all; and of hosts and the routes
	// that each repeats of another host. It is some 3 MB.
	maxRepeated = 16_000
	// maxText is of all paths together, in bytes, as requests are compared with them: each is there for plain requests and for TLS,
	// and of an escape Envoy makes a part of a regular expression.
	maxText = 256 << 10
	// limitedBody is how many routes a path is where bodies are limited.
	limitedBody = 4
)

// copies is how many routes Envoy gets for each path of an Ingress.
func copies(o label.IngressSettings) int {
	if o.MaxBody > 0 {
		return limitedBody
	}
	return 1
}

// weight is what a route takes when it is repeated: 1 for one that has a short path and lets everybody in.
func (r Route) weight() int { return copies(r.Options) * (1 + len(r.Options.Sources) + len(r.Path)/64) }

// repeats reports whether there is room for each host of an Ingress to have another's routes.
func (p *ingress) repeats(routes []Route) bool {
	sum := 0
	for _, r := range routes {
		sum += r.weight()
	}
	return sum*p.hosts <= maxRepeated
}

// A bound lets the first of several through.
type bound struct {
	limit, n int
	// key and first are the field and the value of the first that was not let through.
	key, first string
}

// takes lets nothing more through once something was too much.
func (b *bound) takes(n int, key, value string) bool {
	fitted := b.n <= b.limit
	if b.n += n; fitted && b.n > b.limit {
		b.key, b.first = key, value
	}
	return b.n <= b.limit
}

// problems names the first that was too much, and how many there are.
func (b *bound) problems(what, inForce string) []label.Problem {
	if b.n <= b.limit {
		return nil
	}
	reason := fmt.Sprintf("the Ingress has %d %s, of which the gateway takes the first %d: divide it into several", b.n, what, b.limit)
	return []label.Problem{field(b.key, b.first, reason, inForce)}
}

// A distinctBound lets the first of several different ones through, each as often as it comes.
type distinctBound[K comparable] struct {
	bound
	known map[K]bool
}

func distinct[K comparable](limit int) distinctBound[K] {
	return distinctBound[K]{bound{limit: limit}, map[K]bool{}}
}

func (b *distinctBound[K]) takesOne(k K, key, value string) bool {
	taken, known := b.known[k]
	if !known {
		taken = b.takes(1, key, value)
		b.known[k] = taken
	}
	return taken
}

// bounds are those of one Ingress.
type bounds struct {
	paths, text, ranged bound
	hosts, secrets      distinctBound[string]
	backends            distinctBound[target]
}

func newBounds(o label.IngressSettings) *bounds {
	return &bounds{
		paths: bound{limit: maxPaths}, text: bound{limit: maxText / copies(o)},
		ranged: bound{limit: maxRepeated / copies(o) / max(1, len(o.Sources))},
		hosts:  distinct[string](maxHosts), secrets: distinct[string](maxSecrets), backends: distinct[target](maxBackends),
	}
}

// takesPath says, too, whether the path is closed: there is no room for its source ranges. It lets nobody in, rather than leave
// its requests to another Ingress's path, which may let in everybody.
func (b *bounds) takesPath(key, path string) (taken, closed bool) {
	if !b.paths.takes(1, key, path) {
		return false, false
	}
	return true, !b.ranged.takes(1, key, path)
}

func (b *bounds) takesHost(key, host string) bool { return b.hosts.takesOne(host, key, host) }

// boundTarget is none for a backend that is too many.
func (b *bounds) boundTarget(t target, key, path string) target {
	if !b.backends.takesOne(t, key, path) {
		return target{}
	}
	return t
}

// surplus is no Secret's name. The hosts of those that are too many have one certificate together, the gateway's own: without
// any, their requests would cease to be redirected to https.
const surplus = "*"

func (b *bounds) boundSecret(o mesh.Object) mesh.Object {
	if !b.secrets.takesOne(o.Name, "spec.tls", o.Name) {
		o.Name = surplus
	}
	return o
}

func (b *bounds) problems() []label.Problem {
	problems := b.hosts.problems("hosts", "the others are not served")
	problems = append(problems, b.paths.problems("paths", "the others are not served")...)
	problems = append(problems, b.text.problems("bytes of paths", "the others are not served")...)
	problems = append(problems, b.ranged.problems("paths with source ranges", "the others let nobody in")...)
	problems = append(problems, b.backends.problems("backends", "the others answer 503")...)
	return append(problems, b.secrets.problems("Secrets", ownCertificate)...)
}

const (
	// maxSecret is of a chain with its key, in bytes: one of four certificates has some 10 kB, and every Secret of the cluster
	// is kept, which may be of 1 MiB.
	maxSecret = 64 << 10
	// tooLarge has in place of these how many bytes they have. It is no key that a Secret can have.
	tooLarge = "too large/bytes"
)

// SecretData returns what the gateway keeps of the data of a Secret of type kubernetes.io/tls: the chain and its key, unless
// they are too large. It changes nothing of what it returned.
func SecretData(data map[string][]byte) map[string][]byte {
	if size, told := data[tooLarge]; told {
		return map[string][]byte{tooLarge: size}
	}
	chain, key := data[corev1.TLSCertKey], data[corev1.TLSPrivateKeyKey]
	if size := len(chain) + len(key); size > maxSecret {
		return map[string][]byte{tooLarge: []byte(strconv.Itoa(size))}
	}
	return map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key}
}
