package ingress

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// many is an Ingress of so many hosts without TLS, each with so many paths.
func many(hosts, paths int) *networkingv1.Ingress {
	i := simple(1, "/")
	path := i.Spec.Rules[0].HTTP.Paths[0]
	i.Spec.Rules, i.Spec.TLS = nil, nil
	for h := range hosts {
		rule := networkingv1.IngressRule{Host: fmt.Sprintf("h%d.example", h)}
		rule.HTTP = &networkingv1.HTTPIngressRuleValue{}
		for n := range paths {
			path.Path = fmt.Sprintf("/p%d", n)
			rule.HTTP.Paths = append(rule.HTTP.Paths, path)
		}
		i.Spec.Rules = append(i.Spec.Rules, rule)
	}
	return i
}

// withoutHost is an Ingress of so many paths for all hosts.
func withoutHost(paths int) *networkingv1.Ingress {
	i := many(1, paths)
	i.Name, i.Spec.Rules[0].Host = "all", ""
	return i
}

// long makes each path one of 4,000 bytes.
func long(i *networkingv1.Ingress) *networkingv1.Ingress {
	paths := i.Spec.Rules[0].HTTP.Paths
	for n := range paths {
		paths[n].Path += strings.Repeat("x", 4000-len(paths[n].Path))
	}
	return i
}

// shortPath is how a problem names a long path.
func shortPath(begin string) string { return begin + strings.Repeat("x", 100-len(begin)) + "…" }

func names(n int, format string) []string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(format, i))
	}
	return list
}

// TestLimits: what an Ingress has too much of is not served, and its author is told what, how much there may be, and what to do;
// the rest is served. Where it is about who may come, nobody comes who could not before.
func TestLimits(t *testing.T) {
	for name, test := range map[string]struct {
		make func() *networkingv1.Ingress
		// problem is of the Ingress; routes and hosts are what it gets.
		problem       string
		hosts, routes int
	}{
		"hosts": {
			func() *networkingv1.Ingress { return many(1002, 1) },
			`spec.rules="h1000.example": the Ingress has 1002 hosts, of which the gateway takes the first 1000: divide it into several; the others are not served`, 1000, 1000,
		},
		"hosts that fit": {func() *networkingv1.Ingress { return many(1000, 2) }, "", 1000, 2000},
		"paths": {
			func() *networkingv1.Ingress { return many(3, 700) },
			`spec.rules="h2.example/p600": the Ingress has 2100 paths, of which the gateway takes the first 2000: divide it into several; the others are not served`, 3, 2000,
		},
		"paths with ranges": {func() *networkingv1.Ingress {
			i := many(1, 300)
			i.Annotations = map[string]string{label.SourceRangesKey: strings.Join(names(64, "10.0.0.%d"), ",")}
			return i
		}, `spec.rules="h0.example/p250": the Ingress has 300 paths with source ranges, of which the gateway takes the first 250: divide it into several; the others let nobody in`, 1, 300},
		"paths with ranges and limited bodies": {func() *networkingv1.Ingress {
			i := many(1, 63)
			i.Annotations = map[string]string{label.SourceRangesKey: strings.Join(names(64, "10.0.0.%d"), ","), label.BodyKey: "1Ki"}
			return i
		}, `spec.rules="h0.example/p62": the Ingress has 63 paths with source ranges, of which the gateway takes the first 62: divide it into several; the others let nobody in`, 1, 63},
		"long paths": {
			func() *networkingv1.Ingress { return long(many(1, 68)) },
			`spec.rules="` + shortPath("h0.example/p65") + `": the Ingress has 272000 bytes of paths, of which the gateway takes the first 262144: divide it into several; the others are not served`, 1, 65,
		},
		"long paths with limited bodies": {func() *networkingv1.Ingress {
			i := long(many(1, 17))
			i.Annotations = map[string]string{label.BodyKey: "1Ki"}
			return i
		}, `spec.rules="` + shortPath("h0.example/p16") + `": the Ingress has 68000 bytes of paths, of which the gateway takes the first 65536: divide it into several; the others are not served`, 1, 16},
		"defaults": {func() *networkingv1.Ingress {
			i := many(700, 2)
			i.Spec.DefaultBackend = &i.Spec.Rules[0].HTTP.Paths[0].Backend
			return i
		}, `spec.defaultBackend="h639.example default backend": the Ingress has 2100 paths, of which the gateway takes the first 2000: divide it into several; the others are not served`, 700, 2000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(Config{Controller: controller})
			w.gateway.SetIngress(test.make())
			hosts, routes := 0, 0
			for _, h := range w.flush(noon).Hosts {
				hosts++
				routes += len(h.Host.Routes)
			}
			if hosts != test.hosts || routes != test.routes {
				t.Errorf("%d hosts with %d routes, not %d with %d", hosts, routes, test.hosts, test.routes)
			}
			told := toldOf(w, "i1", "there is no Service")
			if test.problem == "" && len(told) > 0 || test.problem != "" && (len(told) != 1 || !strings.HasSuffix(told[0], test.problem)) {
				t.Errorf("it is told %q, not %q", told, test.problem)
			}
		})
	}
}

// toldOf returns of what an Ingress is told, but what has the text.
func toldOf(w world, name, but string) []string {
	var told []string
	for _, p := range w.gateway.Problems(object(Ingress, "a", name)) {
		if !strings.Contains(p.Reason, but) {
			told = append(told, fmt.Sprintf("%s=%q: %s; %s", p.Key, p.Value, p.Reason, p.InForce))
		}
	}
	return told
}

// TestClosedPaths: a path for whose source ranges there is no room lets nobody in; left out, its requests would be those of a path
// that lets in everybody.
func TestClosedPaths(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	i := many(1, 251)
	i.Annotations = map[string]string{label.SourceRangesKey: strings.Join(names(64, "10.0.0.%d"), ",")}
	w.gateway.SetIngress(i)
	w.flush(noon)
	sources := map[string]int{}
	for _, r := range w.gateway.hosts["h0.example"].Routes {
		if !r.Options.Restricted {
			t.Errorf("%s lets everybody in", r.Path)
		}
		sources[r.Path] = len(r.Options.Sources)
	}
	if sources["/p249"] != 64 || sources["/p250"] != 0 || len(sources) != 251 {
		t.Errorf("of %d paths, those at the bound let %d and %d ranges in", len(sources), sources["/p249"], sources["/p250"])
	}
}

// TestTooManyBackends: each is a cluster of Envoy's. Those that are too many answer 503.
func TestTooManyBackends(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "w1"}, Spec: corev1.ServiceSpec{ClusterIP: "10.96.0.1"}}
	i := many(2, 300)
	for n := range i.Spec.Rules[0].HTTP.Paths {
		service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", n), Port: int32(1 + n)}, corev1.ServicePort{Name: fmt.Sprint("q", n), Port: int32(1001 + n)})
		i.Spec.Rules[0].HTTP.Paths[n].Backend.Service = &networkingv1.IngressServiceBackend{Name: "w1", Port: networkingv1.ServiceBackendPort{Number: int32(1 + n)}}
		i.Spec.Rules[1].HTTP.Paths[n].Backend.Service = &networkingv1.IngressServiceBackend{Name: "w1", Port: networkingv1.ServiceBackendPort{Number: int32(1001 + n)}}
	}
	w.mesh.SetService(service)
	w.gateway.SetIngress(i)
	c := w.flush(noon)
	if len(c.Backends) != 500 {
		t.Errorf("%d backends", len(c.Backends))
	}
	if last := w.gateway.hosts["h1.example"].Routes; len(last) != 300 {
		t.Errorf("%d paths of the second host", len(last))
	}
	want := `spec.rules="h1.example/p200": the Ingress has 600 backends, of which the gateway takes the first 500: divide it into several; the others answer 503`
	if told := toldOf(w, "i1", "nothing"); !slices.Equal(told, []string{want}) {
		t.Errorf("told %q", told)
	}
}

// TestTooManySecrets: each Secret is a filter chain. Those that are too many share one, with a certificate of the gateway's own,
// and their hosts' requests are redirected as before: without TLS they would pass in plain text.
func TestTooManySecrets(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	i := many(120, 1)
	for n, r := range i.Spec.Rules {
		i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{Hosts: []string{r.Host}, SecretName: fmt.Sprint("s", n)})
	}
	w.gateway.SetIngress(i)
	c := w.flush(noon)
	if len(c.Certificates) != 101 {
		t.Errorf("%d certificates", len(c.Certificates))
	}
	for _, h := range c.Hosts {
		if !h.Host.Secure {
			t.Errorf("%s is in plain text", h.Name)
		}
	}
	told := toldOf(w, "i1", "there is no")
	want := `spec.tls="s100": the Ingress has 120 Secrets, of which the gateway takes the first 100: divide it into several; ` + ownCertificate
	if !slices.Equal(told, []string{want}) {
		t.Errorf("told %q", told)
	}
}

// TestRepeatedRoutes: hosts of tls without rules, and names below a wildcard, have the routes of others, as long as these are
// not too many for all of them; that changes with the number of hosts.
func TestRepeatedRoutes(t *testing.T) {
	w := newWorld(Config{Controller: controller})
	w.gateway.SetIngress(withoutHost(800))
	borrower := simple(1, "/")
	borrower.Spec.Rules = nil
	for _, step := range []struct{ hosts, routes int }{{20, 800}, {21, 1}, {1, 800}} {
		next := borrower.DeepCopy()
		next.Spec.TLS[0].Hosts = names(step.hosts, "t%d.example")
		w.gateway.SetIngress(next)
		w.flush(noon)
		h := w.gateway.hosts["t0.example"]
		if len(h.Routes) != step.routes || !h.Secure {
			t.Errorf("of %d hosts, the first has %d routes", step.hosts, len(h.Routes))
		}
		told := toldOf(w, "i1", "there is no")
		if step.routes > 1 {
			if len(told) > 0 {
				t.Errorf("%d hosts: told %q", step.hosts, told)
			}
			continue
		}
		if len(told) != step.hosts || !strings.HasPrefix(told[0], `spec.tls="t0.example": the paths of host * answer for it, too, and are too many for each of the 21 hosts`) {
			t.Errorf("%d hosts: told %q", step.hosts, told)
		}
		if h.Routes[0].Match != Default || h.Routes[0].Backend != (BackendKey{}) {
			t.Errorf("a host that cannot have the routes answers %+v", h.Routes[0])
		}
	}
	wild := many(21, 1)
	for n := range wild.Spec.Rules {
		wild.Spec.Rules[n].Host = fmt.Sprintf("*.w%d.example", n)
	}
	w.gateway.SetIngress(wild)
	w.flush(noon)
	if h := w.gateway.hosts["*.w0.example"]; len(h.Routes) != 1 || len(h.Deeper) != 0 {
		t.Errorf("a wildcard has %d routes, %d of others", len(h.Routes), len(h.Deeper))
	}
	if told := toldOf(w, "i1", "there is no"); len(told) != 21 || !strings.HasSuffix(told[0], "names of more labels get 404") {
		t.Errorf("told %q", told)
	}
	wild.Spec.Rules = wild.Spec.Rules[:20]
	w.gateway.SetIngress(wild)
	w.flush(noon)
	if h := w.gateway.hosts["*.w0.example"]; len(h.Deeper) != 800 {
		t.Errorf("with less hosts, a wildcard has %d of others", len(h.Deeper))
	}
}

// TestLargeSecret: every Secret of type kubernetes.io/tls of the cluster is kept, whoever wrote it; of one that is too large for
// a certificate, no more than its size. Its Ingress is told.
func TestLargeSecret(t *testing.T) {
	chain, key := newPair(t, newKey(t), "h1.example")
	w := newWorld(Config{Controller: controller})
	w.gateway.SetIngress(simple(1, "/"))
	for _, step := range []struct {
		more int
		want []string
	}{
		{0, nil},
		{maxSecret - len(chain) - len(key), nil},
		{maxSecret, []string{fmt.Sprintf(`spec.tls="s1": tls.crt and tls.key have %d bytes together, and may have 65536: leave out what is not of the certificate's chain; `, maxSecret+len(chain)+len(key)) + ownCertificate}},
		{maxSecret + 1, []string{fmt.Sprintf(`spec.tls="s1": tls.crt and tls.key have %d bytes together, and may have 65536: leave out what is not of the certificate's chain; `, maxSecret+1+len(chain)+len(key)) + ownCertificate}},
		{0, nil},
	} {
		data := map[string][]byte{
			corev1.TLSCertKey: append(slices.Clone(chain), strings.Repeat("\n", step.more)...), corev1.TLSPrivateKeyKey: key, "ca.crt": chain,
		}
		kept, bytes := SecretData(data), 0
		for _, value := range kept {
			bytes += len(value)
		}
		if most := len(chain) + len(key) + step.more; bytes > min(most, maxSecret) {
			t.Errorf("of %d bytes %d are kept", most, bytes)
		}
		w.gateway.SetSecret(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "a", Name: "s1"}, Data: kept})
		w.flush(noon)
		if told := toldOf(w, "i1", "there is no Service"); !slices.Equal(told, step.want) {
			t.Errorf("%d bytes more: told %q, not %q", step.more, told, step.want)
		}
		if served := w.gateway.certificates[object(Secret, "a", "s1")].Pair != nil; served != (step.want == nil) {
			t.Errorf("%d bytes more: served is %t", step.more, served)
		}
	}
}
