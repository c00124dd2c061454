package mesh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"pgregory.net/rapid"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// A cluster holds Kubernetes objects: what a mesh is made from.
type cluster map[Object]func(*Mesh)

// known is what a mesh has told.
type known struct {
	Ports    map[Object][]Port
	Problems map[Object][]label.Problem
}

func (s known) apply(c Changes) {
	for _, change := range c.Ports {
		s.Ports[change.Owner] = change.Ports
		if len(change.Ports) == 0 {
			delete(s.Ports, change.Owner)
		}
	}
	for _, change := range c.Problems {
		s.Problems[change.Object] = change.Problems
		if len(change.Problems) == 0 {
			delete(s.Problems, change.Object)
		}
	}
}

func newKnown() known {
	return known{Ports: map[Object][]Port{}, Problems: map[Object][]label.Problem{}}
}

// TestIncrementalEqualsRebuild plays any sequence of events to one mesh, and all objects that there are to another: a
// user who relabels, scales and deletes must be where one is who starts the control plane on the result.
func TestIncrementalEqualsRebuild(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			config   = Config{KubernetesAPI: rapid.Bool().Draw(t, "kubernetesAPI")}
			limit    = rapid.SampledFrom([]int{1, 2, 3, maxAddresses}).Draw(t, "limit")
			m        = New(config)
			told     = newKnown()
			existing = cluster{}
		)
		m.limit = limit
		for range rapid.IntRange(20, 100).Draw(t, "events") {
			o := drawObject(t)
			if rapid.IntRange(0, 5).Draw(t, "what") == 0 {
				m.Delete(o)
				delete(existing, o)
			} else {
				set := drawContent(t, o)
				set(m)
				existing[o] = set
			}
			if rapid.IntRange(0, 2).Draw(t, "more") > 0 {
				told.apply(m.Flush())
				checkRebuilt(t, config, limit, existing, told)
			}
		}
		told.apply(m.Flush())
		checkRebuilt(t, config, limit, existing, told)
		checkQuiet(t, m, existing)
		checkEmpty(t, m, existing)
	})
}

func checkRebuilt(t *rapid.T, config Config, limit int, existing cluster, told known) {
	rebuilt := New(config)
	rebuilt.limit = limit
	objects := slices.SortedFunc(maps.Keys(existing), Object.Compare)
	if rapid.Bool().Draw(t, "backwards") {
		slices.Reverse(objects)
	}
	for _, o := range objects {
		existing[o](rebuilt)
	}
	want := newKnown()
	want.apply(rebuilt.Flush())
	if diff := cmp.Diff(want, told, cmpopts.EquateComparable(netip.Addr{}, netip.AddrPort{})); diff != "" {
		t.Fatalf("after events (+) it is not as from scratch (-):\n%s", diff)
	}
	checkState(t, told)
}

// checkQuiet sends each object again as it was, as informers do.
func checkQuiet(t *rapid.T, m *Mesh, existing cluster) {
	for o, set := range existing {
		set(m)
		if c := m.Flush(); !cmp.Equal(c, Changes{}) {
			t.Fatalf("%s came again as it was, and changed %+v", o, c)
		}
	}
}

// checkState holds any model to what Envoy needs: an address and port once, an endpoint once, weights that it accepts.
func checkState(t *rapid.T, s known) {
	owners := map[netip.AddrPort]Object{}
	for o, ports := range s.Ports {
		for _, p := range ports {
			for _, at := range p.Addresses {
				if other, twice := owners[at]; twice {
					t.Fatalf("%s belongs to %s and to %s", at, o, other)
				}
				owners[at] = o
			}
			seen := map[netip.AddrPort]bool{}
			for _, e := range p.Endpoints {
				if seen[e.Address] || e.Weight == 0 || e.Weight > label.MaxWeight || e.Address.Addr().Is4() != p.Endpoints[0].Address.Addr().Is4() {
					t.Fatalf("%s port %d: endpoints %v", o, p.Number, p.Endpoints)
				}
				seen[e.Address] = true
			}
		}
	}
}

// checkEmpty deletes everything and finds what a mesh forgot to forget.
func checkEmpty(t *rapid.T, m *Mesh, existing cluster) {
	for o := range existing {
		m.Delete(o)
	}
	m.Flush()
	for name, size := range map[string]int{
		"services": len(m.services), "services without endpoints": len(m.emptiedBy), "who left them": len(m.empties), "slices": len(m.slices), "pods": len(m.pods), "workloads": len(m.workloads),
		"slicesOf": len(m.slicesOf), "slicesWith": len(m.slicesWith), "podsOf": len(m.podsOf),
		"replicaSetsOf": len(m.replicaSetsOf), "claims": len(m.claims.at) - len(redirectCheckIPs) + len(m.claims.of), "ports": len(m.ports),
		"cut": len(m.cut), "podsAt": len(m.podsAt), "problems": len(m.problems), "dirty": len(m.dirty),
	} {
		if size != 0 {
			t.Fatalf("%d %s are left", size, name)
		}
	}
}

var kinds = []string{"Service", "EndpointSlice", "Pod", "Deployment", "ReplicaSet", "StatefulSet"}

// drawObject names one of few objects.
func drawObject(t *rapid.T) Object {
	kind := rapid.SampledFrom(kinds).Draw(t, "kind")
	o := Object{Kind: kind, Namespace: drawNamespace(t), Name: drawName(t, "name")}
	if kind == "Service" && rapid.IntRange(0, 4).Draw(t, "api") == 0 {
		o.Name = "kubernetes"
	}
	return o
}

// drawNamespace is mostly the same, so that objects that are to meet do.
func drawNamespace(t *rapid.T) string {
	return rapid.SampledFrom([]string{"default", "default", "other"}).Draw(t, "namespace")
}

// drawAddress has few values for pods, endpoints and Services alike: whatever one can claim, another has.
func drawAddress(t *rapid.T, network, what string) string {
	return fmt.Sprintf(network, rapid.IntRange(1, 2).Draw(t, what))
}

// The networks from which addresses are drawn.
const (
	network4 = "10.96.0.%d"
	network6 = "fd00::%d"
)

// drawName has few values, so that objects meet.
func drawName(t *rapid.T, what string) string {
	return rapid.SampledFrom([]string{"x0", "x1"}).Draw(t, what)
}

func drawContent(t *rapid.T, o Object) func(*Mesh) {
	meta := metav1.ObjectMeta{Namespace: o.Namespace, Name: o.Name, Labels: drawLabels(t)}
	switch o.Kind {
	case "Service":
		return drawService(t, meta)
	case "EndpointSlice":
		return drawSlice(t, meta)
	case "Pod":
		meta.OwnerReferences = drawOwner(t, "ReplicaSet", "StatefulSet")
		if rapid.Bool().Draw(t, "injected") {
			meta.Annotations = map[string]string{label.ProxyAnnotation: "v1"}
		}
		return drawPod(t, meta)
	case "ReplicaSet":
		meta.OwnerReferences = drawOwner(t, "Deployment")
	}
	template := drawLabels(t)
	return func(m *Mesh) { m.SetWorkload(o.Kind, &meta, template) }
}

// drawPod has the addresses that slices have, and now and then another's, which was the pod's that ended.
func drawPod(t *rapid.T, meta metav1.ObjectMeta) func(*Mesh) {
	meta.CreationTimestamp = metav1.Unix(rapid.Int64Range(1, 3).Draw(t, "created"), 0)
	p := &corev1.Pod{ObjectMeta: meta}
	p.Status.Phase = rapid.SampledFrom([]corev1.PodPhase{"Pending", "Running", "Running", "Failed"}).Draw(t, "phase")
	p.Spec.HostNetwork = rapid.IntRange(0, 4).Draw(t, "onNode") == 0
	for _, network := range []string{network4, network6} {
		if rapid.IntRange(0, 2).Draw(t, network) > 0 {
			p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: drawAddress(t, network, "ip")})
		}
	}
	return func(m *Mesh) { m.SetPod(p) }
}

func drawLabels(t *rapid.T) map[string]string {
	labels := map[string]string{"app": rapid.SampledFrom([]string{"a", "b"}).Draw(t, "app")}
	for _, choice := range [][]string{
		{label.WeightKey, "", "", "", "0", "1", "500", "x"},
		{label.EnabledKey, "", "", "true", "true", "false"},
		{"traffic.port.1", "", "http", "http", "tcp", "direct", "x"},
		{"traffic.port.2", "", "tcp"},
		{"traffic.port.8080", "", "", "http", "tcp"},
		{"traffic.target.port.8081", "", "", "direct"},
		{label.PolicyKey, "", "", "RANDOM"},
	} {
		if value := rapid.SampledFrom(choice[1:]).Draw(t, choice[0]); value != "" {
			labels[choice[0]] = value
		}
	}
	return labels
}

func drawOwner(t *rapid.T, kinds ...string) []metav1.OwnerReference {
	if rapid.IntRange(0, 4).Draw(t, "orphan") == 0 {
		return nil
	}
	controller := true
	return []metav1.OwnerReference{{
		APIVersion: "apps/v1", Controller: &controller, Kind: rapid.SampledFrom(kinds).Draw(t, "ownerKind"),
		Name: drawName(t, "owner"), UID: types.UID("1"),
	}}
}

func drawService(t *rapid.T, meta metav1.ObjectMeta) func(*Mesh) {
	address := func(name string) string {
		return rapid.SampledFrom([]string{"10.96.0.1", "10.96.0.2", "10.96.0.3", "192.0.2.7", "fd00::1"}).Draw(t, name)
	}
	meta.CreationTimestamp = metav1.Unix(rapid.Int64Range(1, 3).Draw(t, "created"), 0)
	s := &corev1.Service{ObjectMeta: meta}
	s.Spec.ClusterIPs = []string{address("clusterIP")}
	s.Spec.ClusterIP = s.Spec.ClusterIPs[0]
	s.Spec.ExternalIPs = []string{address("externalIP")}
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: address("loadBalancer")}}
	s.Spec.IPFamilies = []corev1.IPFamily{rapid.SampledFrom([]corev1.IPFamily{"IPv4", "IPv6"}).Draw(t, "family")}
	s.Spec.Ports = []corev1.ServicePort{{Name: "one", Port: 1, Protocol: "TCP"}}
	if rapid.Bool().Draw(t, "two") {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "two", Port: 2, Protocol: "TCP"})
	}
	switch rapid.IntRange(0, 7).Draw(t, "type") {
	case 0, 2, 3:
		s.Spec.ClusterIP, s.Spec.ClusterIPs = "None", []string{"None"}
	case 1:
		s.Spec.Type = corev1.ServiceTypeExternalName
	}
	return func(m *Mesh) { m.SetService(s) }
}

func drawSlice(t *rapid.T, meta metav1.ObjectMeta) func(*Mesh) {
	meta.Labels = map[string]string{
		discoveryv1.LabelServiceName: drawName(t, "service"),
	}
	s := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: "IPv4"}
	network := network4
	if rapid.IntRange(0, 3).Draw(t, "v6") == 0 {
		s.AddressType, network = "IPv6", network6
	}
	for i, name := range []string{"one", "two"} {
		number := rapid.SampledFrom([]int32{1, 8080, 8081}).Draw(t, "port")
		if i == 0 || rapid.Bool().Draw(t, "second") {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{Name: &name, Port: &number})
		}
	}
	conditions := []*bool{nil, new(bool), new(bool)}
	*conditions[2] = true
	condition := rapid.SampledFrom(conditions)
	for range rapid.IntRange(0, 3).Draw(t, "endpoints") {
		e := discoveryv1.Endpoint{
			Addresses: []string{drawAddress(t, network, "endpoint")},
			Conditions: discoveryv1.EndpointConditions{
				Ready: condition.Draw(t, "ready"), Serving: condition.Draw(t, "serving"), Terminating: condition.Draw(t, "terminating"),
			},
		}
		if rapid.IntRange(0, 3).Draw(t, "byHand") > 0 {
			e.TargetRef = &corev1.ObjectReference{Kind: "Pod", Name: drawName(t, "pod")}
		}
		s.Endpoints = append(s.Endpoints, e)
	}
	return func(m *Mesh) { m.SetEndpointSlice(s) }
}
