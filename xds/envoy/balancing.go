package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

var lbPolicies = map[label.Policy]clusterv3.Cluster_LbPolicy{
	label.RoundRobin:   clusterv3.Cluster_ROUND_ROBIN,
	label.LeastRequest: clusterv3.Cluster_LEAST_REQUEST,
	label.RingHash:     clusterv3.Cluster_RING_HASH,
	label.Random:       clusterv3.Cluster_RANDOM,
	label.Maglev:       clusterv3.Cluster_MAGLEV,
}

// hashPolicies say what of a request is hashed, the first that it has. Without one, a hashing balancer picks at random.
func hashPolicies(b label.Balancing) []*routev3.RouteAction_HashPolicy {
	if !b.Hashes() {
		return nil // generating a cookie that nobody reads would only cost
	}
	var policies []*routev3.RouteAction_HashPolicy
	if b.HashHeader != "" {
		policies = append(policies, &routev3.RouteAction_HashPolicy{
			Terminal: true,
			PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
				Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: b.HashHeader},
			},
		})
	}
	if b.HashCookie != "" {
		cookie := &routev3.RouteAction_HashPolicy_Cookie{Name: b.HashCookie, Path: "/"}
		if b.CookieTTL != nil {
			cookie.Ttl = durationpb.New(*b.CookieTTL)
		}
		policies = append(policies, &routev3.RouteAction_HashPolicy{
			PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{Cookie: cookie},
		})
	}
	return policies
}
