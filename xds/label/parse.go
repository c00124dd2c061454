package label

import (
	"fmt"
	"slices"
	"strings"
)

// A Problem is a label, or a part of an Ingress, that does not do what its author may think. It concerns its key alone: every other label of the
// object is in force.
type Problem struct {
	// Subject says what Key is a key of.
	Subject    Subject
	Key, Value string
	// Reason says what is wrong and what was expected.
	Reason string
	// InForce says what applies instead.
	InForce string
	// Unused says that only the want of an open port keeps the label from what it says: it is no problem of a Service that an
	// Ingress names.
	Unused bool
}

func (p Problem) String() string {
	return fmt.Sprintf("%s %s=%q: %s; in force: %s", p.Subject, p.Key, p.Value, p.Reason, p.InForce)
}

// A Subject is the part of an object that a Problem is about.
type Subject uint8

// The parts of an object.
const (
	Label Subject = iota
	Annotation
	Field // of its specification
)

func (s Subject) String() string { return [...]string{"label", "annotation", "field"}[s] }

// Parse reads the traffic.* labels of an object of that kind. An empty value counts as absent. A label that is not
// valid, not known or without effect on the kind is left out of the settings and returned as a Problem; problems are
// sorted by key.
func Parse(kind Kind, labels map[string]string) (Settings, []Problem) {
	var (
		s       Settings
		changed []Problem // of labels that are accepted with a change
		invalid []refusal
		pending = trafficKeys(labels)
	)
	for _, entry := range Table {
		pending = slices.DeleteFunc(pending, func(key string) bool {
			port, ok, err := entry.Matches(key)
			if !ok {
				return false
			}
			p, valid := entry.apply(&s, kind, key, labels[key], port, err)
			switch {
			case !valid:
				invalid = append(invalid, refusal{entry, port, *p})
			case p != nil:
				changed = append(changed, *p)
			}
			return true
		})
	}
	problems := s.refused(kind, invalid)
	idle := idle(kind, labels, s, problems)
	changed = slices.DeleteFunc(changed, func(p Problem) bool { return slices.ContainsFunc(idle, p.contradicts) })
	problems = slices.Concat(problems, changed, unknown(pending, labels), idle)
	if kind == Pod {
		problems = append(problems, overruled(labels)...)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	return s, problems
}

// contradicts reports whether a label of which this says what it counts as does nothing, whatever other objects there are.
func (p Problem) contradicts(idle Problem) bool { return p.Key == idle.Key && !idle.Unused }

// A refusal is a Problem that left a label out of the settings.
type refusal struct {
	entry   Key
	port    uint16
	problem Problem
}

// refused completes the problems of what was left out, once it is known what the other labels say.
func (s Settings) refused(kind Kind, refusals []refusal) []Problem {
	var problems []Problem
	for _, r := range refusals {
		if r.problem.InForce == "" {
			r.problem.InForce = s.instead(r.entry, kind, r.port)
		}
		problems = append(problems, r.problem)
	}
	return problems
}

// apply sets what one label says, or tells why it cannot. A valid label can have a problem too: what it counts as. What is in
// force instead of a value that is not valid is not said here: other labels may decide it.
func (k Key) apply(s *Settings, kind Kind, key, value string, port uint16, portErr error) (p *Problem, valid bool) {
	p = &Problem{Key: key, Value: value}
	switch {
	case portErr != nil:
		p.Reason, p.InForce = portErr.Error(), "nothing"
		return p, false
	case !k.AppliesTo(kind):
		p.Reason, p.InForce = fmt.Sprintf("has no meaning on %s, only on %s", kind.withArticle(), list(k.On, "and")), "nothing"
		return p, false
	}
	note, err := k.set(s, port, value)
	switch {
	case err != nil:
		p.Reason = "expected " + k.Expected
		return p, false
	case note != "":
		p.Reason, p.InForce = "expected "+k.Expected, "it "+note
		return p, true
	}
	return nil, true
}

// maxSuggestions bounds for how many keys of an object the one that was meant is looked for: nobody reads more, and it takes
// longer than all the rest.
const maxSuggestions = 20

// maxUnknown bounds how many of them are told at all: an object may have a hundred thousand.
const maxUnknown = 100

// unknown tells of keys that are none of the vocabulary.
func unknown(keys []string, labels map[string]string) []Problem {
	var problems []Problem
	for n, key := range keys[:min(len(keys), maxUnknown)] {
		p := Problem{Key: key, Value: labels[key], Reason: "no such label", InForce: "nothing"}
		if n < maxSuggestions {
			p.Reason += suggestion(key)
		}
		problems = append(problems, p)
	}
	return problems
}

// suggestion says which key may have been meant.
func suggestion(key string) (text string) {
	if IsIngressAnnotation(key) {
		return ", " + IngressPrefix + " begins annotations of Ingresses"
	}
	if near := nearest(key); near != "" {
		text = ", did you mean " + near + "?"
	}
	if strings.HasPrefix(key, retriesPrefix) {
		text += " (" + retriesPrefix + " is followed by " + list(conditions(), "or") + ")"
	}
	return text
}

// A condition is what ends a key of retries.
type condition string

func (c condition) String() string { return string(c) }

func conditions() (all []condition) {
	for _, entry := range Table {
		if end, ok := strings.CutPrefix(entry.Name, retriesPrefix); ok {
			all = append(all, condition(end))
		}
	}
	return all
}

// trafficKeys returns the keys of our labels that have a value, sorted.
func trafficKeys(labels map[string]string) []string {
	var keys []string
	for key, value := range labels {
		if value != "" && strings.HasPrefix(key, Prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}
