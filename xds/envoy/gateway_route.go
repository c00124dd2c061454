package envoy

import (
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A gatewayHost is a Host with what was made of it, so that an edit of one host does not marshal all of them: fragments of
// the RouteConfigurations of plain requests and of the default certificate, with its virtual host.
type gatewayHost struct {
	*ingress.Host
	plain, unnamed []byte
}

func (g *Gateway) newHost(h *ingress.Host) (*gatewayHost, error) {
	plain, err := g.virtualHost(h, plainRequest)
	if err != nil {
		return nil, err
	}
	made := &gatewayHost{Host: h, plain: plain}
	switch {
	case g.config.DefaultCertificate == (mesh.Object{}):
	case h.Secure:
		made.unnamed, err = misdirected(domain(h.Name))
	default:
		made.unnamed, err = g.virtualHost(h, secureRequest)
	}
	return made, err
}

// misdirected is for what belongs to another certificate's connections (RFC 9110, section 7.4).
func misdirected(domain string) ([]byte, error) {
	return virtualHostFragment(&routev3.VirtualHost{
		Name: domain, Domains: []string{domain}, Routes: []*routev3.Route{answer(nil, http.StatusMisdirectedRequest)},
	})
}

// virtualHostFragment is of the RouteConfiguration that has the virtual host.
func virtualHostFragment(v *routev3.VirtualHost) ([]byte, error) {
	return marshal(&routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{v}})
}

// domain is how Envoy names a host.
func domain(host string) string {
	if host == "" {
		return "*"
	}
	return host
}

// A requestKind says how a request came.
type requestKind bool

const (
	plainRequest  requestKind = false
	secureRequest requestKind = true
)

// virtualHost is what a host answers.
func (g *Gateway) virtualHost(h *ingress.Host, kind requestKind) ([]byte, error) {
	domain := domain(h.Name)
	v := &routev3.VirtualHost{Name: domain, Domains: []string{domain}}
	var guard []*routev3.HeaderMatcher
	if strings.HasPrefix(domain, "*.") {
		guard = oneLabel(domain)
	}
	for _, r := range h.Routes {
		routes, err := g.routes(h, r, guard, kind)
		if err != nil {
			return nil, err
		}
		v.Routes = append(v.Routes, routes...)
	}
	if guard != nil {
		if err := g.addDeeper(v, h, guard, kind); err != nil {
			return nil, err
		}
	}
	fragment, err := virtualHostFragment(v)
	if err != nil {
		return nil, fmt.Errorf("virtual host %s: %w", domain, err)
	}
	return fragment, nil
}

// addDeeper answers for the names that Envoy's wildcard is for, too, and Kubernetes' is not.
func (g *Gateway) addDeeper(v *routev3.VirtualHost, h *ingress.Host, guard []*routev3.HeaderMatcher, kind requestKind) error {
	if kind == secureRequest {
		v.Routes = append(v.Routes, answer(guard, http.StatusNotFound), answer(nil, http.StatusMisdirectedRequest))
		return nil
	}
	if len(h.Deeper) == 0 {
		return nil
	}
	v.Routes = append(v.Routes, answer(guard, http.StatusNotFound))
	for _, r := range h.Deeper {
		routes, err := g.routes(&ingress.Host{}, r, nil, kind)
		if err != nil {
			return err
		}
		v.Routes = append(v.Routes, routes...)
	}
	return nil
}

// oneLabel matches hosts with one label in place of the wildcard's star: Envoy's own stands for several.
func oneLabel(wildcard string) []*routev3.HeaderMatcher {
	return []*routev3.HeaderMatcher{{
		Name: ":authority",
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{
				Regex: `(?i)[^.:]+` + regexp.QuoteMeta(strings.TrimPrefix(wildcard, "*")) + `(:[0-9]+)?`,
			}},
		}},
	}}
}

// answer matches everything that the guard lets pass.
func answer(guard []*routev3.HeaderMatcher, status uint32) *routev3.Route {
	return &routev3.Route{
		Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}, Headers: guard},
		Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}},
	}
}

// routes are those of one rule: its own, four if it limits bodies, and before it those for challenges where it redirects them.
func (g *Gateway) routes(h *ingress.Host, r ingress.Route, guard []*routev3.HeaderMatcher, kind requestKind) ([]*routev3.Route, error) {
	forward, err := g.forward(r)
	if err != nil {
		return nil, err
	}
	forward.Match = match(r, guard)
	var redirect *routev3.Route
	if kind == plainRequest && r.Secure && !r.Options.NoRedirect && !r.IsChallenge() {
		redirect = &routev3.Route{Match: match(r, guard), Action: toHTTPS(h.Name)}
		if !r.TakesChallenges() {
			return []*routev3.Route{redirect}, nil
		}
		forward.Match = &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ingress.Challenges}, Headers: guard}
	}
	routes := []*routev3.Route{forward}
	if r.Options.MaxBody > 0 && forward.GetRoute() != nil {
		if routes, err = limitBody(forward, r.Options.MaxBody); err != nil {
			return nil, err
		}
	}
	if redirect != nil {
		routes = append(routes, redirect)
	}
	return routes, nil
}

// toHTTPS keeps method and body. A host that is known is written out, without the port of the plain request; of another, which
// the client names, the port is replaced.
func toHTTPS(host string) *routev3.Route_Redirect {
	redirect := &routev3.RedirectAction{
		SchemeRewriteSpecifier: &routev3.RedirectAction_HttpsRedirect{HttpsRedirect: true},
		ResponseCode:           routev3.RedirectAction_PERMANENT_REDIRECT,
	}
	if host != "" && !strings.HasPrefix(host, "*") {
		redirect.HostRedirect = host
	} else {
		redirect.PortRedirect = 443
	}
	return &routev3.Route_Redirect{Redirect: redirect}
}

// lettered are escapes that have two spellings: Envoy leaves the case of hex digits as it comes.
var lettered = regexp.MustCompile(`%(?:[A-F][0-9A-F]|[0-9][A-F])`)

// anyCase matches what a path matches, whatever the case of its escapes; nil for a path that has one spelling.
func anyCase(r ingress.Route) *routev3.RouteMatch_SafeRegex {
	if !lettered.MatchString(r.Path) {
		return nil
	}
	pattern := lettered.ReplaceAllString(regexp.QuoteMeta(r.Path), "(?i:$0)")
	switch r.Match {
	case ingress.Prefix:
		pattern += "(?:/.*)?"
	case ingress.TextPrefix:
		pattern += ".*"
	case ingress.Exact, ingress.Default:
	}
	return &routev3.RouteMatch_SafeRegex{SafeRegex: &matcherv3.RegexMatcher{Regex: pattern}}
}

func match(r ingress.Route, guard []*routev3.HeaderMatcher) *routev3.RouteMatch {
	m := &routev3.RouteMatch{Headers: guard}
	if pattern := anyCase(r); pattern != nil {
		m.PathSpecifier = pattern
		return m
	}
	switch {
	case r.Match == ingress.Exact:
		m.PathSpecifier = &routev3.RouteMatch_Path{Path: r.Path}
	case r.Match == ingress.Default:
		m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: "/"}
	case r.Match == ingress.Prefix && r.Path != "/":
		m.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: r.Path}
	default:
		m.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: r.Path}
	}
	return m
}

// keptToRetry is how much of a body Envoy keeps to try a request again, as the labels promise. Without it, it is what a stream
// of HTTP/2 may send at once: gatewayStreamWindow.
const keptToRetry = 1 << 20

// forward sends requests to the backend of a rule.
func (g *Gateway) forward(r ingress.Route) (*routev3.Route, error) {
	if r.Backend == (ingress.BackendKey{}) {
		return answer(nil, http.StatusServiceUnavailable), nil
	}
	routes, err := routesTo(backendName(r.Backend), r.Settings)
	if err != nil {
		return nil, err
	}
	route := routes[0]
	if route.GetRoute().GetRetryPolicy() != nil {
		route.RequestBodyBufferLimit = wrapperspb.UInt64(keptToRetry)
	}
	if route.TypedPerFilterConfig, err = optionFilters(r.Options); err != nil {
		return nil, err
	}
	if r.Settings.Tracing.Enabled && g.translator.tracing != nil {
		if route.Tracing = sampling(r.Settings.Tracing); route.Tracing == nil {
			route.Tracing = &routev3.Tracing{RandomSampling: &typev3.FractionalPercent{Numerator: 100}}
		}
	} else {
		route.Tracing = nil
	}
	return route, nil
}

// gatewayRoutes is a RouteConfiguration of the fragments that have its virtual hosts.
func gatewayRoutes(owner mesh.Object, name string, fragments [][]byte) (Resource, error) {
	first, err := marshal(&routev3.RouteConfiguration{
		Name:                     name,
		IgnorePortInHostMatching: true, // a client that came to another port names it in its Host
	})
	return assembled(owner, name, resourcev3.RouteType, append([][]byte{first}, fragments...)), err
}

// plainRoutes is the RouteConfiguration of plain requests.
func (g *Gateway) plainRoutes() (Resource, error) {
	var fragments [][]byte
	for _, name := range slices.Sorted(maps.Keys(g.hosts)) {
		fragments = append(fragments, g.hosts[name].plain)
	}
	return gatewayRoutes(mesh.Object{}, plainName, fragments)
}

// defaultRoutes is that of the default certificate: of hosts without their own.
func (a *application) defaultRoutes() {
	if !a.plainDirty && len(a.certificatesDirty) == 0 {
		return
	}
	var fragments [][]byte
	for _, name := range slices.Sorted(maps.Keys(a.hosts)) {
		fragments = append(fragments, a.hosts[name].unnamed)
	}
	a.put(gatewayRoutes(mesh.Object{}, defaultName, fragments))
}

// secureRoutes is the RouteConfiguration of a certificate. Whatever else a connection is asked for is misdirected, known or
// not: to tell them apart, each would have to have all hosts.
func (a *application) secureRoutes(secret mesh.Object) {
	certificate := a.certificates[secret]
	if certificate == nil {
		return
	}
	a.begin("routes of " + certificateName(secret))
	name := secureName(certificateName(secret))
	var fragments [][]byte
	for _, domain := range certificate.Domains {
		host := &ingress.Host{Name: domain}
		if h := a.hosts[domain]; h != nil {
			host = h.Host
		}
		fragment, err := a.virtualHost(host, secureRequest)
		if err != nil {
			a.fail(secret, domain, err)
			return
		}
		fragments = append(fragments, fragment)
	}
	rest, err := misdirected("*")
	if err != nil {
		a.fail(secret, name, err)
		return
	}
	a.put(gatewayRoutes(secret, name, append(fragments, rest)))
}
