package envoy

import (
	"fmt"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// backendName names the cluster of a backend and its endpoints. It is that of the port's cluster in sidecars, which have
// other resources: users' queries are the same for both. A backend that is spoken to in another way is another cluster.
func backendName(k ingress.BackendKey) string {
	name := fmt.Sprintf("%d|%s|%s", k.Port, k.Service.Namespace, k.Service.Name)
	if k.Upstream != label.UpstreamHTTP {
		name += "|" + k.Upstream.String()
	}
	return name + ".outbound"
}

// backendCluster has the gateway pick an endpoint.
func (g *Gateway) backendCluster(k ingress.BackendKey, p mesh.Port) (*clusterv3.Cluster, error) {
	c := g.translator.connection(backendName(k), p)
	toEndpoints(c, p)
	c.TypedExtensionProtocolOptions = g.upstream[k.Upstream]
	if tlsTo(k.Upstream) {
		config, err := pack(&tlsv3.UpstreamTlsContext{})
		if err != nil {
			return nil, err
		}
		c.TransportSocket = &corev3.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: config},
		}
	}
	return c, nil
}

// tlsTo tells whether endpoints speak TLS. Its ALPN is that of the one protocol: a server that prefers HTTP/2 would get that, over
// which there are no WebSockets.
func tlsTo(u label.Upstream) bool { return u == label.UpstreamHTTPS || u == label.UpstreamGRPCS }

// upstreamIdle is how long a connection to an endpoint is kept without a request, in place of Envoy's hour. A server that
// closes it first may do so in the moment in which it is used again, and the request is lost: a GET could be tried again, a POST
// not. So it is less than what servers keep by default: gunicorn 2 s, Node.js, uvicorn and Apache 5 s, others 20 s and more.
// (nginx keeps 60 s and Contour and Istio Envoy's hour, and leave it to users to tune one of both.) The price is a TCP
// handshake within the cluster for requests that are further apart.
const upstreamIdle = 1500 * time.Millisecond

// gatewayUpstreams says how the gateway speaks to endpoints: whatever its client speaks, a server gets what it knows.
func gatewayUpstreams() (map[label.Upstream]map[string]*anypb.Any, error) {
	http1 := &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{HttpProtocolOptions: &corev3.Http1ProtocolOptions{}},
	}
	http2 := &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{
		ProtocolConfig: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: http2Options()},
	}
	packed := map[label.Upstream]map[string]*anypb.Any{}
	for upstream, explicit := range map[label.Upstream]*upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig{
		label.UpstreamHTTP: http1, label.UpstreamHTTPS: http1, label.UpstreamHTTP2: http2, label.UpstreamGRPCS: http2,
	} {
		o := &upstreamsv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &upstreamsv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: explicit},
		}
		if tlsTo(upstream) {
			o.UpstreamHttpProtocolOptions = &corev3.UpstreamHttpProtocolOptions{AutoSni: true} // the name that the client asked for
		}
		o.CommonHttpProtocolOptions = &corev3.HttpProtocolOptions{IdleTimeout: durationpb.New(upstreamIdle)}
		config, err := pack(o)
		if err != nil {
			return nil, err
		}
		packed[upstream] = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": config}
	}
	return packed, nil
}
