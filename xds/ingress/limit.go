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
	// maxSecrets have a filter chain, a connection manager and a RouteConfiguration each.
	maxSecrets = 100
	// maxRepeated bounds products: of paths and source ranges, since each path has them all; and of hosts and the routes
	// that each repeats of another host. It is some 3 MB.
	maxRepeated = 16_000
)

// weight is what a route takes when it is repeated: 1 for one that has a short path and lets everybody in.
func (r Route) weight() int { return 1 + len(r.Options.Sources) + len(r.Path)/64 }

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

func (b *bound) takes(key, value string) bool {
	b.n++
	if b.n == b.limit+1 {
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

// bounds are those of one Ingress.
type bounds struct {
	paths, ranged, host, secret bound
	hosts                       map[string]bool
	secrets                     map[string]bool
}

func newBounds(o label.IngressSettings) *bounds {
	return &bounds{
		paths: bound{limit: maxPaths}, ranged: bound{limit: maxRepeated / max(1, len(o.Sources))},
		host: bound{limit: maxHosts}, secret: bound{limit: maxSecrets},
		hosts: map[string]bool{}, secrets: map[string]bool{},
	}
}

// takesPath says, too, whether the path is closed: there is no room for its source ranges. It lets nobody in, rather than leave
// its requests to another Ingress's path, which may let in everybody.
func (b *bounds) takesPath(key, path string) (taken, closed bool) {
	if !b.paths.takes(key, path) {
		return false, false
	}
	return true, !b.ranged.takes(key, path)
}

func (b *bounds) takesHost(key, host string) bool {
	taken, known := b.hosts[host]
	if !known {
		taken = b.host.takes(key, host)
		b.hosts[host] = taken
	}
	return taken
}

// surplus is no Secret's name. The hosts of those that are too many have one certificate together, the gateway's own: without
// any, their requests would cease to be redirected to https.
const surplus = "*"

func (b *bounds) boundSecret(o mesh.Object) mesh.Object {
	taken, known := b.secrets[o.Name]
	if !known {
		taken = b.secret.takes("spec.tls", o.Name)
		b.secrets[o.Name] = taken
	}
	if !taken {
		o.Name = surplus
	}
	return o
}

func (b *bounds) problems() []label.Problem {
	problems := b.host.problems("hosts", "the others are not served")
	problems = append(problems, b.paths.problems("paths", "the others are not served")...)
	problems = append(problems, b.ranged.problems("paths with source ranges", "the others let nobody in")...)
	return append(problems, b.secret.problems("Secrets", ownCertificate)...)
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
