package envoy

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// DefaultClusterDomain ends the names of Services where nobody decided otherwise.
const DefaultClusterDomain = "cluster.local"

// split reports whether requests to the port are of two kinds: by the name of its headless Service, and to a pod.
func split(p mesh.Port) bool { return p.Headless && p.Balanced() }

// dialled is the port as a client sees it that did not ask for the Service, but for a pod: by its IP or its DNS name. The
// Service's labels are not about such requests. But that they are traced is the listener's, which is the same for all.
func dialled(p mesh.Port) mesh.Port {
	p.Settings = label.Settings{Tracing: p.Settings.Tracing}
	return p
}

// dialledName names the cluster of these requests.
func dialledName(p mesh.Port) string {
	return fmt.Sprintf("%d|%s|%s|dialled.outbound", p.Number, p.Owner.Namespace, p.Owner.Name)
}

// dialledCluster sends each request to the address that its connection was made to.
func (t *Translator) dialledCluster(p mesh.Port) *clusterv3.Cluster {
	c := t.connection(dialledName(p), dialled(p))
	toDialled(c)
	// The address of a pod that is gone can be another's soon: no connection to it waits here for a later client.
	c.ConnectionPoolPerDownstreamConnection = true
	return c
}

// splitRoute tells requests by the Service's name from all others. A headless name resolves to the addresses of pods, so
// that clients name the port of the pods, whichever it is.
func (t *Translator) splitRoute(p mesh.Port) (*routev3.RouteConfiguration, error) {
	byName, err := routesTo(clusterName(p), p.Settings)
	if err != nil {
		return nil, err
	}
	byPod, err := routesTo(dialledName(p), dialled(p).Settings)
	if err != nil {
		return nil, err
	}
	return &routev3.RouteConfiguration{
		Name:                     clusterName(p),
		IgnorePortInHostMatching: true,
		VirtualHosts: []*routev3.VirtualHost{
			{Name: "service", Domains: serviceNames(p.Owner, t.clusterDomain), Routes: byName},
			{Name: "dialled", Domains: []string{"*"}, Routes: byPod},
		},
	}, nil
}

// defaultHost stands for the Host that a client of HTTP/1.0 does not name. Of a split port it is none of serviceNames: who
// does not ask for the Service has dialled a pod.
func defaultHost(p mesh.Port) string {
	host := p.Owner.Name + "." + p.Owner.Namespace
	if split(p) {
		host += ".pod"
	}
	return host
}

// serviceNames are the names by which clients know a Service. The first is for clients in its namespace; the same name
// leads others to other addresses. The last is the complete one as DNS has it.
func serviceNames(service mesh.Object, clusterDomain string) []string {
	short := service.Name + "." + service.Namespace
	full := short + ".svc." + clusterDomain
	return []string{service.Name, short, short + ".svc", full, full + "."}
}
