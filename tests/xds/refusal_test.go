package xds

import (
	"fmt"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// TestWhatEnvoyRefuses: one resource of a change passes the rules of Envoy's API and yet is refused by Envoy. All others of
// the change arrive, the refused one stays as it was and serves, its owner is named once, and nobody tries it again.
func TestWhatEnvoyRefuses(t *testing.T) {
	tests := map[string]struct {
		typeURL string
		spoil   func(*testing.T, envoy.Resource) envoy.Resource
	}{
		"a route with a domain twice": {resourcev3.RouteType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &routev3.RouteConfiguration{}, func(c *routev3.RouteConfiguration) {
				c.GetVirtualHosts()[0].Domains = []string{"x", "x"}
			})
		}},
		"endpoints of another name": {resourcev3.EndpointType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &endpointv3.ClusterLoadAssignment{}, func(c *endpointv3.ClusterLoadAssignment) {
				c.ClusterName = "another"
			})
		}},
		"a cluster that cannot be": {resourcev3.ClusterType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &clusterv3.Cluster{}, func(c *clusterv3.Cluster) { c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED })
		}},
		"a listener at another's address": {resourcev3.ListenerType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &listenerv3.Listener{}, func(l *listenerv3.Listener) {
				l.Address.GetSocketAddress().Address = clusterIP("service-0").String()
			})
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			c := startControl(t, w)
			backend := w.backend(t, "a")
			var services []*service
			for i := range 9 {
				services = append(services, newService(fmt.Sprint("service-", i), label.HTTP, backend))
			}
			bad := services[4]
			c.publish(t, open(t, services...))
			s := startSidecar(t, w, c)
			s.has(t, open(t, services...).Set)

			var u serve.Update
			var want []envoy.Resource
			for _, service := range services {
				for i, r := range different(t, service) {
					if service == bad && r.Type == test.typeURL {
						want = append(want, service.resources(t)[i])
						u.Set = append(u.Set, test.spoil(t, r))
						continue
					}
					want = append(want, r)
					u.Set = append(u.Set, r)
				}
			}
			if a := c.publish(t, u); a.Rejected != 1 {
				t.Errorf("applied: %+v, want it to be rejected", a)
			}
			s.has(t, want)
			if got := c.rejected(); len(got) != 1 || got[0].Owner != bad.Owner || got[0].Key.Type != test.typeURL || got[0].Message == "" {
				t.Errorf("rejections: %+v, want one of %s", got, bad.Owner)
			}
			tried := c.metric(t, "traffic_control_rejections_total", "")
			if tried > 10 {
				t.Errorf("%v responses were rejected to find one of %d resources", tried, len(services))
			}
			for _, service := range services {
				if status, body, err := w.get(service.address()); body != "a" {
					t.Errorf("%s: %d %q, %v", service.Owner, status, body, err)
				}
			}
			c.publish(t, open(t, newService("later", label.HTTP, backend)))
			c.publish(t, serve.Update{Set: different(t, bad)}) // mended
			later := open(t, newService("later", label.HTTP, backend)).Set
			for _, service := range services {
				later = append(later, different(t, service)...)
			}
			s.has(t, later)
			if got := c.metric(t, "traffic_control_rejections_total", ""); got != tried {
				t.Errorf("what was refused was tried again, %v times", got-tried)
			}
		})
	}
}
