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
const Misspelling = slip + `[^/]+$`

// MisspeltAnnotation is the same for annotations of Ingresses: Traffic.ingress/, traffic.ingres/ and the like, and what is written
// as labels are, such as traffic.ssl-redirect. It matches ours too.
const MisspeltAnnotation = slip + `([Ii][Nn]?[Gg]?[Rr]?[Ee][Ss]{1,3}/|[^/]+$)`

const slip = `^[Tt][Rr]?[Aa][Ff]{1,3}[Ii]?[Ff]?[CcKkQq]{0,2}[.]`

var misspelling, misspeltAnnotation = regexp.MustCompile(Misspelling), regexp.MustCompile(MisspeltAnnotation)

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

// MisspeltIngress tells of annotations of an Ingress that would be ours if their keys began with IngressPrefix, and of labels that
// were set as annotations, sorted by key. The control plane does not read them. It looks at the first maxSuggestions of such keys.
func MisspeltIngress(annotations map[string]string) []Problem {
	var problems []Problem
	looked := 0
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if annotations[key] == "" || IsIngressAnnotation(key) || !misspeltAnnotation.MatchString(key) {
			continue
		}
		if looked++; looked > maxSuggestions {
			break
		}
		if reason := notAnAnnotation(key); reason != "" {
			problems = append(problems, Problem{Subject: Annotation, Key: key, Value: annotations[key], Reason: reason, InForce: "nothing"})
		}
	}
	return problems
}

// notAnAnnotation says what was meant by a key that MisspeltAnnotation matches; nothing if it may be others'.
func notAnAnnotation(key string) string {
	for _, entry := range Table {
		if _, ok, _ := entry.Matches(key); ok {
			return "this is no annotation, but a label of " + list(entry.On, "and")
		}
	}
	_, name, _ := strings.Cut(key, ".")
	if _, end, ok := strings.Cut(name, "/"); ok {
		name = end
	}
	if near := nearestAnnotation(IngressPrefix + strings.TrimPrefix(name, "ingress.")); near != "" {
		return fmt.Sprintf("no such annotation, did you mean %s?", near)
	}
	return ""
}
