package envoy

import (
	"cmp"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// gatewayStatPrefix is an interface: users' queries name it.
const gatewayStatPrefix = "traffic-ingress"

// The limits follow Envoy's "Configuring Envoy as an edge proxy" (configuration/best_practices/edge); xds/README.md, "The
// edge", says where not. Envoy's own defaults are written out where the gateway's safety rests on them.
const (
	// gatewayHeadersTimeout is for the headers of a request to come, from their first byte.
	gatewayHeadersTimeout = 10 * time.Second
	gatewayStreamIdle     = 5 * time.Minute
	// gatewayHeadersKiB is for all headers of a request with its target, which has no limit of its own. Above it is 431.
	gatewayHeadersKiB = 60
	gatewayHeaders    = 100
)

// DefaultIdleTimeout is longer than load balancers keep a connection for another request, Google's 600 s, so that they close it
// and no request meets one that closes; and no longer, since what is silent takes room of the one limit of connections.
const DefaultIdleTimeout = 630 * time.Second

// Limits of one HTTP/2 connection.
const (
	gatewayStreams      = 100
	gatewayStreamWindow = 64 << 10
	gatewayWindow       = 1 << 20
	// What may wait to be written to a client that does not read: frames, and of those answers to PING, SETTINGS and bad
	// streams, for which a client pays next to nothing (CVE-2019-9512, 9514, 9515).
	gatewayOutboundFrames        = 10_000
	gatewayOutboundControlFrames = 1_000
	// Empty frames (CVE-2019-9518), PRIORITY per stream (9513), and WINDOW_UPDATE per frame of data.
	gatewayEmptyFrames         = 1
	gatewayPriorityFrames      = 100
	gatewayWindowUpdatesPerOne = 10
	// gatewayResetBurst may be canceled at once, and gatewayResetRate a second after that (CVE-2023-44487): who cancels all that
	// a connection may hold, ten times over, is no browser.
	gatewayResetBurst = 1_000
	gatewayResetRate  = 33
)

// gatewayManager reads the requests of strangers. It has no InternalAddressConfig: an empty one would let whoever has a private
// address steer Envoy by x-envoy- headers (CVE-2024-45806).
func (g *Gateway) gatewayManager(route string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: gatewayStatPrefix,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: ads(), RouteConfigName: route,
		}},
		GenerateRequestId: wrapperspb.Bool(g.translator.tracing != nil),
		Tracing:           g.reports(),
		HttpFilters:       g.httpFilters,
		LocalReplyConfig:  malformedReplies(),
		AccessLog:         g.log,
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},

		// What is matched is what is sent on, so that no other spelling of a path gets by a rule.
		NormalizePath:                 wrapperspb.Bool(true),
		MergeSlashes:                  true,
		PathWithEscapedSlashesAction:  hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT,
		StripTrailingHostDot:          true,
		UseRemoteAddress:              wrapperspb.Bool(true),
		XffNumTrustedHops:             g.config.TrustedHops,
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{g.claims},
		// What the public conformance features want in every answer; a server's own stays.
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_APPEND_IF_ABSENT,
		RequestHeadersTimeout:      durationpb.New(gatewayHeadersTimeout),
		StreamIdleTimeout:          durationpb.New(gatewayStreamIdle),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     durationpb.New(cmp.Or(g.config.IdleTimeout, DefaultIdleTimeout)),
			MaxHeadersCount: wrapperspb.UInt32(gatewayHeaders),
			// Some servers take "_" for "-": a client could set a header that the gateway guards.
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_REJECT_REQUEST,
		},
		MaxRequestHeadersKb:             wrapperspb.UInt32(gatewayHeadersKiB),
		StreamErrorOnInvalidHttpMessage: wrapperspb.Bool(false), // after bytes that nobody can read, nothing more is read
		HttpProtocolOptions:             &corev3.Http1ProtocolOptions{AllowAbsoluteUrl: wrapperspb.Bool(true)},
		Http2ProtocolOptions:            gatewayHTTP2(),
	}
}

func gatewayHTTP2() *corev3.Http2ProtocolOptions {
	return &corev3.Http2ProtocolOptions{
		MaxConcurrentStreams:                         wrapperspb.UInt32(gatewayStreams),
		InitialStreamWindowSize:                      wrapperspb.UInt32(gatewayStreamWindow),
		InitialConnectionWindowSize:                  wrapperspb.UInt32(gatewayWindow),
		MaxOutboundFrames:                            wrapperspb.UInt32(gatewayOutboundFrames),
		MaxOutboundControlFrames:                     wrapperspb.UInt32(gatewayOutboundControlFrames),
		MaxConsecutiveInboundFramesWithEmptyPayload:  wrapperspb.UInt32(gatewayEmptyFrames),
		MaxInboundPriorityFramesPerStream:            wrapperspb.UInt32(gatewayPriorityFrames),
		MaxInboundWindowUpdateFramesPerDataFrameSent: wrapperspb.UInt32(gatewayWindowUpdatesPerOne),
		StreamResetBurst:                             wrapperspb.UInt64(gatewayResetBurst),
		StreamResetRate:                              wrapperspb.UInt64(gatewayResetRate),
	}
}

// reports is the way to the collector. All hosts share a connection manager, so that it samples nothing but on routes whose
// Service asks for it, and what trusted proxies in front sample: of others, claims takes away that they do.
func (g *Gateway) reports() *hcmv3.HttpConnectionManager_Tracing {
	if g.translator.tracing == nil {
		return nil
	}
	none := &typev3.Percent{}
	return &hcmv3.HttpConnectionManager_Tracing{
		Provider: g.translator.tracing.manager.GetProvider(), ClientSampling: none, RandomSampling: none,
	}
}

const (
	bufferFilter = "envoy.filters.http.buffer"
	rbacFilter   = "envoy.filters.http.rbac"
)

// gatewayFilters holds from the start every filter that an annotation turns on for a route. Until then each is disabled.
func gatewayFilters() ([]*hcmv3.HttpFilter, error) {
	var list []*hcmv3.HttpFilter
	for _, f := range []struct {
		name     string
		config   proto.Message
		disabled bool
	}{
		{malformedFilter, denyMalformed(), false},
		{forwardedFilter, forwarded(), false},
		{rbacFilter, &rbacv3.RBAC{}, true},
		{bufferFilter, &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(1)}, true},
		{"envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}, false},
	} {
		config, err := pack(f.config)
		if err != nil {
			return nil, err
		}
		list = append(list, &hcmv3.HttpFilter{
			Name: f.name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}, Disabled: f.disabled,
		})
	}
	return list, nil
}
