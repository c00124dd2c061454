package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// route sends every request of a port to its cluster, unless it was dialled for a pod of a headless Service.
func (t *Translator) route(p mesh.Port) (*routev3.RouteConfiguration, error) {
	if split(p) {
		return t.splitRoute(p)
	}
	routes, err := routesTo(clusterName(p), p.Settings)
	if err != nil {
		return nil, err
	}
	return &routev3.RouteConfiguration{
		Name:         clusterName(p),
		VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: routes}},
	}, nil
}

// routesTo sends every request to a cluster, with all that labels say of requests. A timeout is over when the answer is
// complete, and for a WebSocket when the server agreed to it.
func routesTo(cluster string, s label.Settings) ([]*routev3.Route, error) {
	retryPolicy, err := retries(s.Retries)
	if err != nil {
		return nil, err
	}
	filters, err := faults(s)
	if err != nil {
		return nil, err
	}
	return []*routev3.Route{{
		Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
			// 0 is none; without the field Envoy cuts every response after 15 seconds, streams and downloads too.
			Timeout:     durationpb.New(s.RequestTimeout),
			HashPolicy:  hashPolicies(s.Balancing),
			RetryPolicy: retryPolicy,
		}},
		TypedPerFilterConfig: filters,
		Tracing:              sampling(s.Tracing),
	}}, nil
}
