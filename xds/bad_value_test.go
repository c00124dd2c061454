package xds_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// TestBadValuesChangeNothing: with a value that is none, every resource is what it is without the label, whatever the key
// and the object, and the problem is told on that object.
func TestBadValuesChangeNothing(t *testing.T) {
	for _, kind := range []label.Kind{label.Service, label.Pod, label.Deployment} {
		for _, entry := range label.Table {
			if !entry.AppliesTo(kind) {
				continue
			}
			key := strings.Replace(entry.Name, "<port>", "81", 1)
			t.Run(string(kind)+"/"+key, func(t *testing.T) {
				drawn := 0
				rapid.Check(t, func(r *rapid.T) {
					value := badValue.Draw(r, "value")
					if accepted(kind, key, value) {
						return
					}
					drawn++
					without, _ := shop(t, kind, nil)
					with, problems := shop(t, kind, map[string]string{key: value})
					if len(with) != len(without) || len(with) < 8 {
						t.Fatalf("%s=%q: %d resources, %d without", key, value, len(with), len(without))
					}
					for k, resource := range without {
						if with[k].Version != resource.Version {
							t.Fatalf("%s=%q: %s %s is another", key, value, typeName(k.Type), k.Name)
						}
					}
					if !problems[key] {
						t.Fatalf("%s=%q: nobody is told", key, value)
					}
				})
				if drawn < 10 {
					t.Errorf("only %d bad values of %s were drawn", drawn, key)
				}
			})
		}
	}
}

// badValue draws what people write by mistake, as far as it can be the value of a label.
var badValue = rapid.OneOf(
	rapid.SampledFrom([]string{
		"-1", "-0", "1.", "1e3", "0x10", "101", "100.00001", "4294967296", "18446744073709551616", "999999999999999999999999",
		"3sec", "3S", "-3s", "1us", "8761h", "tru", "1", "yes", "null", "nan", "inf", "htpp", "http3", "udp", "ROUND-ROBIN", "199", "600",
	}),
	rapid.StringMatching(`[A-Za-z0-9]([-_.A-Za-z0-9]{0,61}[A-Za-z0-9])?`),
	rapid.StringMatching(`[-a-z ;:=/\x00]{1,20}`), // no label has it, but nothing may depend on that
)

// accepted reports whether the value is one, or counts as one.
func accepted(kind label.Kind, key, value string) bool {
	_, problems := label.Parse(kind, map[string]string{key: value})
	for _, p := range problems {
		if p.Key == key && strings.HasPrefix(p.Reason, "expected ") && !strings.HasPrefix(p.InForce, "it ") {
			return false
		}
	}
	return true
}

// shop is a Service and a pod that have a port open, and their Deployment. It returns the resources, and the keys that
// have a problem on the object of the kind.
func shop(t *testing.T, kind label.Kind, labels map[string]string) (map[envoy.Key]envoy.Resource, map[string]bool) {
	var more [3]string
	for i, k := range []label.Kind{label.Service, label.Deployment, label.Pod} {
		for key, value := range labels {
			if k == kind {
				more[i] = fmt.Sprintf(", %s: %q", key, value)
			}
		}
	}
	p := newPlayer(t)
	for _, set := range decode(t, txtar.File{Name: "shop.yaml", Data: fmt.Appendf(nil, shopObjects, more[0], more[1], more[2])}) {
		set(p)
	}
	p.flush(t)
	problems := map[string]bool{}
	for object, of := range p.problems {
		for _, problem := range of {
			if object.Kind == string(kind) {
				problems[problem.Key] = true
			}
		}
	}
	return p.live, problems
}

const shopObjects = `
apiVersion: v1
kind: Service
metadata: {name: shop, labels: {traffic.port.80: http%s}}
spec:
  clusterIP: 10.96.0.1
  clusterIPs: [10.96.0.1]
  ports: [{name: web, port: 80}, {name: other, port: 81}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-1, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: web, port: 8080}, {name: other, port: 8081}]
endpoints: [{addresses: [10.244.0.1], targetRef: {kind: Pod, name: shop-1}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, labels: {app: shop%s}}
---
apiVersion: v1
kind: Pod
metadata: {name: shop-1, labels: {traffic.port.8080: http%s}}
status: {phase: Running, podIP: 10.244.0.1, podIPs: [{ip: 10.244.0.1}]}
`
