package envoy

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	faultv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/fault/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// statPrefix is shared by all listeners: a name for each would multiply the series of every proxy.
const statPrefix = "outbound"

// upgrades are what a request may switch its connection to: a WebSocket, and what clients of Kubernetes and Docker speak
// when they attach to a process. Envoy wants each by name, in any case, and answers 403 to all others.
var upgrades = []string{"websocket", "SPDY/3.1", "tcp"}

// listener takes the connections to one address and port from the listener that is in each proxy's bootstrap, which
// hands them over by their original destination. It has a name of its own so that it is replaced alone.
func listener(at netip.AddrPort, filter *listenerv3.Filter) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:             at.String(),
		Address:          socketAddress(at),
		BindToPort:       wrapperspb.Bool(false),
		TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		StatPrefix:       statPrefix,
		FilterChains:     []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{filter}}},
	}
}

// A filter is what handles the connections of a port.
type filter struct {
	*listenerv3.Filter
	version string
	eager   bool // see Resource
}

func (t *Translator) filter(p mesh.Port) (filter, error) {
	var (
		name    = "envoy.filters.network.tcp_proxy"
		message proto.Message
	)
	switch p.Protocol {
	case label.HTTP, label.HTTP2:
		name, message = "envoy.filters.network.http_connection_manager", t.connectionManager(p)
	default:
		message = t.tcpProxy(p)
	}
	config, err := pack(message)
	if err != nil {
		return filter{}, err
	}
	f := &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: config}}
	return filter{Filter: f, version: version(append([]byte(name), config.GetValue()...)), eager: t.traced(p)}, nil
}

// tcpProxy never closes a connection for being idle: without a proxy nobody did.
func (t *Translator) tcpProxy(p mesh.Port) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix:       statPrefix,
		ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: clusterName(p)},
		IdleTimeout:      durationpb.New(0),
		AccessLog:        t.tcpLog,
	}
}

// connectionManager is the same for every setting of a port but its being HTTP: what labels set is in the route. It
// changes of a request only what it must. It has no InternalAddressConfig, so that no address is trusted to steer the proxy
// by x-envoy- headers: an empty one would trust all private ones.
func (t *Translator) connectionManager(p mesh.Port) *hcmv3.HttpConnectionManager {
	tracing := t.reports(p)
	return &hcmv3.HttpConnectionManager{
		StatPrefix: statPrefix,
		// Traces alone have a use for an id of each request.
		GenerateRequestId: wrapperspb.Bool(tracing != nil),
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: ads(), RouteConfigName: clusterName(p),
		}},
		Tracing:     tracing,
		HttpFilters: t.httpFilters,
		AccessLog:   t.httpLog,
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{
			// Old clients, and nginx as a proxy, still speak HTTP/1.0.
			AcceptHttp_10:         true,
			DefaultHostForHttp_10: defaultHost(p),
			// Some clients offer to upgrade to TLS with every request; Envoy would answer 403.
			IgnoreHttp_11Upgrade: []*matcherv3.StringMatcher{{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "TLS/"}, IgnoreCase: true,
			}},
		},
		Http2ProtocolOptions: http2Options(),
		UpgradeConfigs:       t.upgrades,
		// The request's timeout is the route's: a stream may be silent for longer than Envoy's five minutes.
		StreamIdleTimeout: durationpb.New(0),
		// The server decides whether it wants the body.
		Proxy_100Continue:          true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
}

func upgradeConfigs() []*hcmv3.HttpConnectionManager_UpgradeConfig {
	var configs []*hcmv3.HttpConnectionManager_UpgradeConfig
	for _, name := range upgrades {
		configs = append(configs, &hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: name})
	}
	return configs
}

// httpFilters holds from the start every filter that a label can turn on for a route. Until then each does nothing.
func httpFilters() ([]*hcmv3.HttpFilter, error) {
	filters := []struct {
		name   string
		config proto.Message
	}{
		{faultFilter, &faultv3.HTTPFault{DisableDownstreamClusterStats: true}},
		{"envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}},
	}
	var list []*hcmv3.HttpFilter
	for _, f := range filters {
		config, err := pack(f.config)
		if err != nil {
			return nil, err
		}
		list = append(list, &hcmv3.HttpFilter{Name: f.name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}})
	}
	return list, nil
}
