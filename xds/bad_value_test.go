package xds_test

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	p := newPlayer(t)
	meta := func(of label.Kind, with ...string) metav1.ObjectMeta {
		m := *benchMeta(0, with...)
		if of == kind {
			for key, value := range labels {
				metav1.SetMetaDataLabel(&m, key, value)
			}
		}
		return m
	}
	service := benchService(0, true)
	service.ObjectMeta = meta(label.Service, label.PortKey(80), "http")
	service.Spec.Ports = append(service.Spec.Ports, corev1.ServicePort{Name: "other", Port: 81})
	p.mesh.SetService(service)
	slice := benchSlice(0)
	other, number := "other", int32(8081)
	slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &other, Port: &number})
	p.mesh.SetEndpointSlice(slice)
	deployment := meta(label.Deployment)
	p.mesh.SetWorkload("Deployment", &deployment, nil)
	p.mesh.SetWorkload("ReplicaSet", controlledBy(benchMeta(0), "Deployment"), nil)
	pod := corev1.Pod{ObjectMeta: meta(label.Pod, label.PortKey(8080), "http")}
	controlledBy(&pod.ObjectMeta, "ReplicaSet")
	pod.Name += "-0"
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.0", PodIPs: []corev1.PodIP{{IP: "10.0.0.0"}}}
	p.mesh.SetPod(&pod)
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
