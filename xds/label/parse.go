package label

import (
	"fmt"
	"maps"
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
		s        Settings
		problems []Problem
		invalid  []Problem // those of the problems that left the label out of the settings
		pending  = trafficKeys(labels)
	)
	for _, entry := range Table {
		rest := pending[:0:0]
		for _, key := range pending {
			port, ok, err := entry.Matches(key)
			if !ok {
				rest = append(rest, key)
				continue
			}
			p, valid := entry.apply(&s, kind, key, labels[key], port, err)
			if p != nil {
				problems = append(problems, *p)
			}
			if !valid {
				invalid = append(invalid, *p)
			}
		}
		pending = rest
	}
	for _, key := range pending {
		problems = append(problems, unknown(key, labels[key]))
	}
	problems = append(problems, idle(kind, labels, s, invalid)...)
	if kind == Pod {
		problems = append(problems, overruled(labels)...)
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Key, b.Key) })
	return s, problems
}

// apply sets what one label says, or tells why it cannot. A valid label can have a problem too: what it counts as.
func (k Key) apply(s *Settings, kind Kind, key, value string, port uint16, portErr error) (p *Problem, valid bool) {
	p = &Problem{Key: key, Value: value, InForce: k.Default}
	switch {
	case portErr != nil:
		p.Reason, p.InForce = portErr.Error(), "nothing"
		return p, false
	case !k.AppliesTo(kind):
		p.Reason, p.InForce = fmt.Sprintf("has no meaning on a %s, only on %s", kind, list(k.On, "and")), "nothing"
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

func unknown(key, value string) Problem {
	p := Problem{Key: key, Value: value, Reason: "no such label", InForce: "nothing"}
	if near := nearest(key); near != "" {
		p.Reason += ", did you mean " + near + "?"
	}
	if strings.HasPrefix(key, retriesPrefix) {
		p.Reason += " (" + retriesPrefix + " is followed by " + list(conditions(), "or") + ")"
	}
	return p
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
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if strings.HasPrefix(key, Prefix) && labels[key] != "" {
			keys = append(keys, key)
		}
	}
	return keys
}
