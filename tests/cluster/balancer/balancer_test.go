package balancer

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var addresses = Range{V4: netip.MustParsePrefix("10.0.0.128/30"), V6: netip.MustParsePrefix("fd00::/112")}

// service makes a Service, each older than the next by its order, with the
// load balancer addresses that it already has.
func service(name string, order int, kind corev1.ServiceType, families []corev1.IPFamily, has ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(order), 0))},
		Spec:       corev1.ServiceSpec{Type: kind, IPFamilies: families},
	}
	for _, ip := range has {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	return s
}

// Two Services with one address, or an address that moves, and a user's curl
// reaches the wrong pods.
func TestAssign(t *testing.T) {
	v4, both := []corev1.IPFamily{corev1.IPv4Protocol}, []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
	const balanced, internal = corev1.ServiceTypeLoadBalancer, corev1.ServiceTypeClusterIP
	deleted := service("a", 1, balanced, v4, "10.0.0.129")
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Unix(9, 0)}
	for name, test := range map[string]struct {
		services []*corev1.Service
		want     map[string][]string
	}{
		"an address of each family": {
			[]*corev1.Service{service("a", 1, balanced, both)},
			map[string][]string{"a": {"10.0.0.129", "fd00::1"}},
		},
		"the older first, whatever the order": {
			[]*corev1.Service{service("b", 2, balanced, v4), service("a", 1, balanced, v4)},
			map[string][]string{"a": {"10.0.0.129"}, "b": {"10.0.0.130"}},
		},
		"an address in use stays, also for an older Service": {
			[]*corev1.Service{service("b", 2, balanced, v4, "10.0.0.129"), service("a", 1, balanced, v4)},
			map[string][]string{"a": {"10.0.0.130"}},
		},
		"a Service that is no longer balanced gives its address up": {
			[]*corev1.Service{service("a", 1, internal, v4, "10.0.0.129"), service("b", 2, balanced, v4)},
			map[string][]string{"a": nil, "b": {"10.0.0.129"}},
		},
		"a Service that is being deleted gives its address up": {
			[]*corev1.Service{deleted, service("b", 2, balanced, v4)},
			map[string][]string{"a": nil, "b": {"10.0.0.129"}},
		},
		"a second family is added beside the first": {
			[]*corev1.Service{service("a", 1, balanced, both, "10.0.0.131")},
			map[string][]string{"a": {"10.0.0.131", "fd00::1"}},
		},
		"nothing to change": {
			[]*corev1.Service{service("a", 1, balanced, v4, "10.0.0.131"), service("c", 2, internal, v4)},
			map[string][]string{},
		},
		"no address is left": {
			[]*corev1.Service{
				service("a", 1, balanced, v4, "10.0.0.129"), service("b", 1, balanced, v4, "10.0.0.130"),
				service("c", 1, balanced, v4, "10.0.0.131"), service("d", 2, balanced, v4),
			},
			map[string][]string{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := map[string][]string{}
			for _, a := range Assign(test.services, addresses) {
				got[a.Service.Name] = nil
				for _, in := range a.Ingress {
					got[a.Service.Name] = append(got[a.Service.Name], in.IP)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("assignments (-want +got):\n%s", diff)
			}
		})
	}
}
