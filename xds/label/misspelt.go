package label

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Misspelling is an expression, of RE2 and without a quote or a backslash, for keys that begin nearly as ours do: Traffic., trafic.,
// traffik. and the like. It matches ours too, and neither names under a domain nor what others call themselves, such as traefik.
const Misspelling = `^[Tt][Rr]?[Aa][Ff]{1,3}[Ii]?[Ff]?[CcKkQq]{0,2}[.][^/]+$`

var misspelling = regexp.MustCompile(Misspelling)

// Misspelt tells of labels that would be ours if their keys began with Prefix, sorted by key. The control plane does not read
// them. It looks at the first maxSuggestions of such keys.
func Misspelt(labels map[string]string) []Problem {
	var problems []Problem
	looked := 0
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if labels[key] == "" || strings.HasPrefix(key, Prefix) || !misspelling.MatchString(key) {
			continue
		}
		if looked++; looked > maxSuggestions {
			break
		}
		if near := nearest(Prefix + key[strings.IndexByte(key, '.')+1:]); near != "" {
			problems = append(problems, Problem{
				Key: key, Value: labels[key], Reason: fmt.Sprintf("no such label, did you mean %s?", near), InForce: "nothing",
			})
		}
	}
	return problems
}
