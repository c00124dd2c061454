package envoy

import (
	"math"
	"net/http"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// optionFilters turns filters on for all routes of a rule.
func optionFilters(o label.IngressSettings) (map[string]*anypb.Any, error) {
	if !o.Restricted {
		return nil, nil
	}
	config, err := pack(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: sources(o)}})
	if err != nil {
		return nil, err
	}
	return map[string]*anypb.Any{rbacFilter: config}, nil
}

// heldBody is the most that is held of a body that does not announce its length, in bytes, whatever its Ingress allows: who
// writes one may not fill the memory that all share. It is what is kept of any request to try it again.
const heldBody = keptToRetry

// limitBody makes four routes of one: a request that announces too long a body is refused, one that announces a shorter one
// is passed on as it comes, and only one that announces none is held until it has ended or is too long. A WebSocket's handshake,
// which is that and does not end, is passed on: Envoy sends nothing after it until the server agreed.
func limitBody(route *routev3.Route, limit uint32) ([]*routev3.Route, error) {
	config, err := pack(&bufferv3.BufferPerRoute{Override: &bufferv3.BufferPerRoute_Buffer{
		Buffer: &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(min(limit, heldBody))},
	}})
	if err != nil {
		return nil, err
	}
	refused, streamed, handshake := proto.Clone(route).(*routev3.Route), proto.Clone(route).(*routev3.Route), proto.Clone(route).(*routev3.Route)
	refused.Match.Headers = append(refused.Match.Headers, announces(int64(limit)+1, math.MaxInt64))
	refused.Action, refused.RequestBodyBufferLimit, refused.Tracing = answer(nil, http.StatusRequestEntityTooLarge).Action, nil, nil
	streamed.Match.Headers = append(streamed.Match.Headers, announces(0, int64(limit)+1))
	handshake.Match.Headers = append(handshake.Match.Headers, asksForWebSocket())
	if route.TypedPerFilterConfig == nil {
		route.TypedPerFilterConfig = map[string]*anypb.Any{}
	}
	route.TypedPerFilterConfig[bufferFilter] = config
	return []*routev3.Route{refused, streamed, handshake, route}, nil
}

// asksForWebSocket matches what Envoy takes for a handshake: of all other requests it has removed this header.
func asksForWebSocket() *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{Name: "upgrade", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
		MatchPattern: &matcherv3.StringMatcher_Exact{Exact: "websocket"}, IgnoreCase: true,
	}}}
}

// announces matches bodies of a length from one to below another. The codecs hold a client to what it announces.
func announces(from, below int64) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 "content-length",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_RangeMatch{RangeMatch: &typev3.Int64Range{Start: from, End: below}},
	}
}

// sources lets in whom the client's address allows, as it is after trusted hops; without a policy, nobody.
func sources(o label.IngressSettings) *rbacconfigv3.RBAC {
	rules := &rbacconfigv3.RBAC{Action: rbacconfigv3.RBAC_ALLOW}
	if len(o.Sources) == 0 {
		return rules
	}
	policy := &rbacconfigv3.Policy{Permissions: []*rbacconfigv3.Permission{{Rule: &rbacconfigv3.Permission_Any{Any: true}}}}
	for _, prefix := range o.Sources {
		policy.Principals = append(policy.Principals, &rbacconfigv3.Principal{Identifier: &rbacconfigv3.Principal_RemoteIp{
			RemoteIp: &corev3.CidrRange{AddressPrefix: prefix.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(prefix.Bits()))},
		}})
	}
	rules.Policies = map[string]*rbacconfigv3.Policy{"sources": policy}
	return rules
}
