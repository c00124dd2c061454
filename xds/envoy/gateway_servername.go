package envoy

import (
	"cmp"
	"slices"
	"strings"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// serverNames finds the filter chain for the server name that a client asks for: a host's own before a wildcard's, and of
// those the longest. The hosts are kept out of the chains, so that a chain stays, with its connections, when its hosts change;
// and a match in each chain costs Envoy four sockets and three tries for each of all chains whenever one is new.
func serverNames(chains map[string]string) (*matcherv3.Matcher, error) {
	input, err := matcherExtension("server-name", &networkv3.ServerNameInput{})
	if err != nil {
		return nil, err
	}
	exact := map[string]*matcherv3.Matcher_OnMatch{}
	var wildcards []string
	for host := range chains {
		if strings.HasPrefix(host, "*.") {
			wildcards = append(wildcards, host)
			continue
		}
		if exact[host], err = filterChain(chains[host]); err != nil {
			return nil, err
		}
	}
	rest, err := wildcardNames(input, wildcards, chains)
	if err != nil {
		return nil, err
	}
	if len(exact) == 0 {
		return rest, nil
	}
	m := &matcherv3.Matcher{MatcherType: &matcherv3.Matcher_MatcherTree_{MatcherTree: &matcherv3.Matcher_MatcherTree{
		Input:    input,
		TreeType: &matcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &matcherv3.Matcher_MatcherTree_MatchMap{Map: exact}},
	}}}
	if rest != nil {
		m.OnNoMatch = &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Matcher{Matcher: rest}}
	}
	return m, nil
}

// wildcardNames returns nil if there are none.
func wildcardNames(input *xdscorev3.TypedExtensionConfig, wildcards []string, chains map[string]string) (*matcherv3.Matcher, error) {
	if len(wildcards) == 0 {
		return nil, nil
	}
	slices.SortFunc(wildcards, func(a, b string) int { return cmp.Or(cmp.Compare(len(b), len(a)), strings.Compare(a, b)) })
	list := &matcherv3.Matcher_MatcherList{}
	for _, host := range wildcards {
		on, err := filterChain(chains[host])
		if err != nil {
			return nil, err
		}
		list.Matchers = append(list.Matchers, &matcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: endsWith(input, strings.TrimPrefix(host, "*")), OnMatch: on,
		})
	}
	return &matcherv3.Matcher{MatcherType: &matcherv3.Matcher_MatcherList_{MatcherList: list}}, nil
}

func endsWith(input *xdscorev3.TypedExtensionConfig, suffix string) *matcherv3.Matcher_MatcherList_Predicate {
	return &matcherv3.Matcher_MatcherList_Predicate{MatchType: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
			Input: input,
			Matcher: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_ValueMatch{ValueMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Suffix{Suffix: suffix},
			}},
		},
	}}
}

func filterChain(name string) (*matcherv3.Matcher_OnMatch, error) {
	action, err := matcherExtension(name, wrapperspb.String(name))
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{Action: action}}, err
}

func matcherExtension(name string, message proto.Message) (*xdscorev3.TypedExtensionConfig, error) {
	config, err := pack(message)
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: config}, err
}
