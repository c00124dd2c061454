package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	bufferv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/buffer/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// optionFilters turns filters on for a route.
func optionFilters(o label.IngressSettings) (map[string]*anypb.Any, error) {
	filters := map[string]*anypb.Any{}
	if o.MaxBody > 0 {
		config, err := pack(&bufferv3.BufferPerRoute{Override: &bufferv3.BufferPerRoute_Buffer{
			Buffer: &bufferv3.Buffer{MaxRequestBytes: wrapperspb.UInt32(o.MaxBody)},
		}})
		if err != nil {
			return nil, err
		}
		filters[bufferFilter] = config
	}
	if o.Restricted {
		config, err := pack(&rbacv3.RBACPerRoute{Rbac: &rbacv3.RBAC{Rules: sources(o)}})
		if err != nil {
			return nil, err
		}
		filters[rbacFilter] = config
	}
	if len(filters) == 0 {
		return nil, nil
	}
	return filters, nil
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
