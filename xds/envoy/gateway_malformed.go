package envoy

import (
	"net/http"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	rbacconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/rbac/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	rbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Envoy passes what these are about, and servers read it in different ways. Both get 400.
const (
	// hostForm is uri-host [ ":" port ] (RFC 9110, section 7.2): no userinfo, by which a link that a server makes of its own
	// Host would lead elsewhere, and no list, which Envoy makes of two Host fields (RFC 9112, section 3.2).
	hostForm = `([^@,:\[\]]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{0,5})?`
	// targetForm is visible ASCII, as RFC 3986 has it and HTTP/1.1 insists on; over HTTP/2 a query could end a line of the log for
	// those who end lines at U+0085. In the path each percent sign encodes something (section 2.1): "%u0061" is an "a" to
	// some. Queries have always had such.
	targetForm = `([!-$&->@-~]|%[0-9A-Fa-f]{2})*(\?[!-~]*)?`
)

// malformedFilter is the first of all.
const malformedFilter = "malformed"

func header(name, pattern string) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name: name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pattern}},
		}},
	}
}

// malformed matches requests that are.
func malformed() []*routev3.HeaderMatcher {
	host, target := header(":authority", hostForm), header(":path", targetForm)
	host.InvertMatch, target.InvertMatch = true, true
	return []*routev3.HeaderMatcher{host, target}
}

func denyMalformed() *rbacv3.RBAC {
	policy := &rbacconfigv3.Policy{Principals: []*rbacconfigv3.Principal{{Identifier: &rbacconfigv3.Principal_Any{Any: true}}}}
	for _, h := range malformed() {
		policy.Permissions = append(policy.Permissions, &rbacconfigv3.Permission{Rule: &rbacconfigv3.Permission_Header{Header: h}})
	}
	return &rbacv3.RBAC{Rules: &rbacconfigv3.RBAC{
		Action: rbacconfigv3.RBAC_DENY, Policies: map[string]*rbacconfigv3.Policy{malformedFilter: policy},
	}}
}

// malformedReplies is the status of what the filter refuses, which would be 403 otherwise.
func malformedReplies() *hcmv3.LocalReplyConfig {
	or := &accesslogv3.OrFilter{}
	for _, h := range malformed() {
		or.Filters = append(or.Filters, &accesslogv3.AccessLogFilter{
			FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{HeaderFilter: &accesslogv3.HeaderFilter{Header: h}},
		})
	}
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{{
		Filter:     &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{OrFilter: or}},
		StatusCode: wrapperspb.UInt32(http.StatusBadRequest),
	}}}
}
