package envoy

import (
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filterv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
)

// proxyClaims are what servers believe of a request beside X-Forwarded-For and -Proto. A proxy that sets those need not take
// away the others that a client sends, so trusted hops are not believed either.
var proxyClaims = []string{
	"x-forwarded-by", "x-forwarded-client-cert", "x-forwarded-port", "x-forwarded-prefix", "x-forwarded-protocol",
	"x-forwarded-scheme", "x-forwarded-server", "x-forwarded-ssl",
}

// traceClaims say that a request is part of a trace, and whether it is sampled: Envoy follows them without asking what share
// of requests the Service wants.
var traceClaims = []*mutationv3.HeaderMutation{without("b3"), withoutPrefix("x-b3-"), without("traceparent"), without("tracestate")}

func without(name string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}}
}

func withoutPrefix(prefix string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_RemoveOnMatch_{
		RemoveOnMatch: &mutationv3.HeaderMutation_RemoveOnMatch{
			KeyMatcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: prefix}},
		},
	}}
}

// claims takes away what a client says in the name of a proxy, before Envoy looks at it. Without proxies in front nobody has
// a right to any X-Forwarded header, nor to say what is traced. Forwarded (RFC 7239) would lack the gateway, whoever wrote it.
func (c GatewayConfig) claims(traced bool) (*corev3.TypedExtensionConfig, error) {
	early := &earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{withoutPrefix("x-envoy-"), without("forwarded")}}
	if c.TrustedHops == 0 {
		early.Mutations = append(early.Mutations, withoutPrefix("x-forwarded-"))
		if traced {
			early.Mutations = append(early.Mutations, traceClaims...)
		}
	} else {
		for _, name := range proxyClaims {
			early.Mutations = append(early.Mutations, without(name))
		}
	}
	config, err := pack(early)
	if err != nil {
		return nil, err
	}
	return &corev3.TypedExtensionConfig{Name: "claims", TypedConfig: config}, nil
}

// forwardedFilter names the filter that tells servers what they can know of the gateway only.
const forwardedFilter = "forwarded"

// forwarded replaces what came under these names: the host that was asked for, and the client's address, as it is after
// trusted hops. Envoy itself sets X-Forwarded-For and -Proto.
func forwarded() *filterv3.HeaderMutation {
	mutations := &filterv3.Mutations{}
	const replace, ifThere = corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS
	for _, h := range []struct {
		name, value string
		action      corev3.HeaderValueOption_HeaderAppendAction
	}{
		{"x-forwarded-host", "%REQ(:AUTHORITY)%", replace},
		{"x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%", replace},
		// A WebSocket's alone is still there. In it a client could name these headers, for a server to ignore them (RFC 9110, 7.6.1).
		{"connection", "Upgrade", ifThere},
	} {
		mutations.RequestMutations = append(mutations.RequestMutations, &mutationv3.HeaderMutation{
			Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
				Header: &corev3.HeaderValue{Key: h.name, Value: h.value}, AppendAction: h.action,
			}},
		})
	}
	return &filterv3.HeaderMutation{Mutations: mutations}
}
