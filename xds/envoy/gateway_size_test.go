package envoy

import (
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// largest is what one Ingress may add to a gateway, in bytes, as INGRESS.md says.
const largest = 5e6

// TestOneIngressIsBounded: whoever may write an Ingress shares the gateway with others. What multiplies - paths with source
// ranges, hosts with the routes of others, Secrets with their chains - stays small, whatever is written.
func TestOneIngressIsBounded(t *testing.T) {
	ranges := func(n int) map[string]string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf("2001:db8:%x:1111:2222:3333:4444:5555", i))
		}
		return map[string]string{label.SourceRangesKey: strings.Join(list, ","), label.RedirectKey: "false"}
	}
	limited := func(annotations map[string]string) map[string]string {
		all := map[string]string{label.BodyKey: "8Mi", label.RedirectKey: "false"}
		maps.Copy(all, annotations)
		return all
	}
	hosts := func(n int, format string) (list []string) {
		for i := range n {
			list = append(list, fmt.Sprintf(format, i))
		}
		return list
	}
	for name, spec := range map[string][]*manifest{
		"paths and ranges":                {sized("a", ranges(64), 5000, "/p%d", "a.example").secured("a.example")},
		"paths and too many ranges":       {sized("a", ranges(2000), 2000, "/p%d", "a.example").secured("a.example")},
		"paths without a host, wildcards": {sized("a", nil, 2000, "/p%d", ""), sized("b", nil, 1, "/p%d", hosts(1000, "*.h%d.example")...)},
		"some paths, wildcards":           {sized("a", nil, 16, "/p%d", ""), sized("b", nil, 1, "/p%d", hosts(1000, "*.h%d.example")...)},
		"long paths, wildcards":           {sized("a", nil, 16, "/p%d/"+strings.Repeat("x", 2000), ""), sized("b", nil, 1, "/p%d", hosts(60, "*.h%d.example")...)},
		"paths without a host, tls":       {sized("a", nil, 2000, "/p%d", "").secured(hosts(1000, "h%d.example")...)},
		"some paths, tls":                 {sized("a", map[string]string{label.RedirectKey: "false"}, 15, "/p%d", "").secured(hosts(1000, "h%d.example")...)},
		"ranges, tls":                     {sized("a", ranges(64), 3, "/p%d", "").secured(hosts(80, "h%d.example")...)},
		"hosts":                           {sized("a", nil, 1, "/p%d", hosts(10_000, "h%d.example")...).secured(hosts(10_000, "h%d.example")...)},
		"Secrets":                         {sized("a", nil, 0, "").each(5000)},
		"long paths":                      {sized("a", nil, 4000, "/p%d/"+strings.Repeat("x", 300), "a.example").secured("a.example")},
		"longer paths":                    {sized("a", limited(nil), 180, "/p%d/"+strings.Repeat("x", 7900), "a.example").secured("a.example")},
		"paths and bodies":                {sized("a", limited(nil), 2000, "/p%d", "a.example").secured("a.example")},
		"paths, ranges and bodies":        {sized("a", limited(ranges(64)), 2000, "/p%d", "a.example").secured("a.example")},
		"escapes":                         {sized("a", limited(nil), 500, "/p%d/"+strings.Repeat("<", 2600), "a.example").secured("a.example")},
		"some paths, tls and bodies":      {sized("a", limited(nil), 15, "/p%d", "").secured(hosts(1000, "h%d.example")...)},
		"escapes, tls":                    {sized("a", limited(nil), 1, "/p%d/"+strings.Repeat("<", 2600), "").secured(hosts(100, "h%d.example")...)},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Now()
			resources, bytes := sizeOf(t, spec)
			t.Logf("%d resources, %.2f MB, %v", resources, float64(bytes)/1e6, time.Since(start))
			if bytes > largest || resources > 400 {
				t.Errorf("it adds %d resources of %d bytes", resources, bytes)
			}
		})
	}
}

// A manifest is an Ingress in the making.
type manifest networkingv1.Ingress

func sized(name string, annotations map[string]string, paths int, path string, hosts ...string) *manifest {
	i := &manifest{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Annotations: annotations}}
	kind, backend := networkingv1.PathTypePrefix, networkingv1.IngressBackend{
		Service: &networkingv1.IngressServiceBackend{Name: "web", Port: networkingv1.ServiceBackendPort{Number: 80}},
	}
	rule := networkingv1.HTTPIngressRuleValue{}
	for n := range paths {
		rule.Paths = append(rule.Paths, networkingv1.HTTPIngressPath{Path: fmt.Sprintf(path, n), PathType: &kind, Backend: backend})
	}
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	for _, host := range hosts {
		i.Spec.Rules = append(i.Spec.Rules, networkingv1.IngressRule{Host: host, IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &rule}})
	}
	return i
}

func (i *manifest) secured(hosts ...string) *manifest {
	i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{Hosts: hosts, SecretName: "s"})
	return i
}

// each secures so many hosts with a Secret each.
func (i *manifest) each(n int) *manifest {
	for k := range n {
		i.Spec.TLS = append(i.Spec.TLS, networkingv1.IngressTLS{Hosts: []string{fmt.Sprintf("h%d.example", k)}, SecretName: fmt.Sprint("s", k)})
	}
	return i
}

// sizeOf is what a gateway gets of Ingresses.
func sizeOf(t *testing.T, ingresses []*manifest) (resources, bytes int) {
	t.Helper()
	translator, err := NewTranslator(Config{AccessLog: LogAll})
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGateway(translator, GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, Fallback: ingress.Pair{Chain: []byte("c"), Key: []byte("k")}})
	if err != nil {
		t.Fatal(err)
	}
	m, model := mesh.New(mesh.Config{}), ingress.New(ingress.Config{})
	service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	service.Spec.ClusterIP, service.Spec.Ports = "10.96.0.1", []corev1.ServicePort{{Port: 80}}
	m.SetService(service)
	for _, i := range ingresses {
		model.SetIngress((*networkingv1.Ingress)(i))
	}
	u, failures := g.Apply(model.Flush(time.Now(), m, m.Flush().Services))
	if len(failures) > 0 {
		t.Fatal(failures[0].Err)
	}
	for _, r := range u.Set {
		bytes += len(r.Body.GetValue())
	}
	return len(u.Set), bytes
}
