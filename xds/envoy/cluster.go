package envoy

import (
	"cmp"
	"net/netip"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

func (t *Translator) cluster(p mesh.Port) *clusterv3.Cluster {
	c := t.connection(clusterName(p), p)
	if p.Balanced() {
		toEndpoints(c, p)
	} else {
		toDialled(c)
	}
	return c
}

// connection is a cluster that says how connections are made, and not yet where to.
func (t *Translator) connection(name string, p mesh.Port) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                          name,
		ConnectTimeout:                durationpb.New(cmp.Or(p.Settings.ConnectionTimeout, label.DefaultConnectionTimeout)),
		CircuitBreakers:               circuitBreakers(p.Settings.Limits),
		TypedExtensionProtocolOptions: t.upstream[p.Protocol],
		// The client sees only its own proxy: without keepalives here nobody would notice a server that vanished.
		UpstreamConnectionOptions: &clusterv3.UpstreamConnectionOptions{TcpKeepalive: &corev3.TcpKeepalive{
			KeepaliveTime:     wrapperspb.UInt32(60),
			KeepaliveInterval: wrapperspb.UInt32(10),
			KeepaliveProbes:   wrapperspb.UInt32(6),
		}},
	}
}

// toDialled leaves a connection where the client sent it.
func toDialled(c *clusterv3.Cluster) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
}

// toEndpoints has Envoy pick.
func toEndpoints(c *clusterv3.Cluster, p mesh.Port) {
	c.LbPolicy = lbPolicies[p.Settings.Balancing.Policy]
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: c.Name}
	c.CommonLbConfig = &clusterv3.Cluster_CommonLbConfig{
		// Kubernetes decides who is healthy: never send to an endpoint because others are gone.
		HealthyPanicThreshold: &typev3.Percent{Value: 0},
		// By default Envoy holds back a change of weights that follows another within a second.
		UpdateMergeWindow: durationpb.New(0),
	}
}

// upstreamOptions says for each protocol how proxies speak to endpoints.
func upstreamOptions() (map[label.Protocol]map[string]*anypb.Any, error) {
	http1, http2 := &corev3.Http1ProtocolOptions{}, http2Options()
	options := map[label.Protocol]*upstreamsv3.HttpProtocolOptions{
		// As the client speaks: what worked without a proxy works with one.
		label.HTTP: {UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &upstreamsv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: http1, Http2ProtocolOptions: http2,
			},
		}},
		label.HTTP2: {UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2},
			},
		}},
	}
	packed := map[label.Protocol]map[string]*anypb.Any{}
	for protocol, o := range options {
		config, err := pack(o)
		if err != nil {
			return nil, err
		}
		packed[protocol] = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": config}
	}
	return packed, nil
}

// http2Options bound how much of a stream Envoy keeps for who does not read it, and let no such stream stop the others of
// its connection: there is room for as many as a connection may have, which is 1,024. By default it is room for one and a
// half, and all clients in a pod share a connection to an endpoint.
func http2Options() *corev3.Http2ProtocolOptions {
	const streams, window = 1024, 1 << 20
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:        wrapperspb.UInt32(streams),
		InitialStreamWindowSize:     wrapperspb.UInt32(window),
		InitialConnectionWindowSize: wrapperspb.UInt32(streams * window),
	}
}

func endpoints(p mesh.Port) *endpointv3.ClusterLoadAssignment { return assignment(clusterName(p), p) }

// assignment is the endpoints of a port, for a cluster of that name.
func assignment(cluster string, p mesh.Port) *endpointv3.ClusterLoadAssignment {
	assignment := &endpointv3.ClusterLoadAssignment{ClusterName: cluster}
	if len(p.Endpoints) == 0 {
		return assignment
	}
	group := &endpointv3.LocalityLbEndpoints{}
	for _, e := range p.Endpoints {
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: socketAddress(e.Address),
			}},
			LoadBalancingWeight: wrapperspb.UInt32(e.Weight),
		})
	}
	assignment.Endpoints = []*endpointv3.LocalityLbEndpoints{group}
	return assignment
}

func socketAddress(a netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       a.Addr().String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}
