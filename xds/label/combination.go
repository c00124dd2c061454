package label

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// idle tells of the labels of a Service or Pod that are right by themselves, and yet do nothing for what the other labels
// say or do not say. It leaves out those that are not valid.
func idle(kind Kind, labels map[string]string, s Settings, invalid []Problem) []Problem {
	var problems []Problem
	for _, entry := range Table {
		value := labels[entry.Name]
		if value == "" || !entry.AppliesTo(kind) || !entry.handlesPorts() || concerns(invalid, entry.Name) {
			continue
		}
		p := Problem{Key: entry.Name, Value: value, Reason: s.closed(kind, entry.Of), InForce: "nothing"}
		if p.Reason != "" && kind == Service && !slices.ContainsFunc(faults, entry.is) {
			p.Unused, p.InForce = true, gatewayAlone
		}
		if p.Reason == "" {
			missing, reason := s.lacks(entry.Name, labels)
			if !concerns(invalid, missing) { // it is there, and its author knows what is wrong with it
				p.Reason = reason
			}
		}
		if p.Reason == "" && entry.Name == PolicyKey && s.hashesNothing() {
			p.Reason, p.InForce = fmt.Sprintf("there is nothing to hash: it needs requests and %s or %s", cookieNameKey, headerNameKey), Random.String()
		}
		if p.Reason != "" {
			problems = append(problems, p)
		}
	}
	return problems
}

// gatewayAlone is where labels act of a Service without a port that is open to pods. Whether an Ingress names it is not known here.
const gatewayAlone = "at the gateway alone, for Ingresses that name the Service"

// handlesPorts reports whether the key says how an open port is handled, and so has no meaning without one.
func (k Key) handlesPorts() bool {
	return k.AppliesTo(Service) && !strings.HasSuffix(k.Name, portPlaceholder)
}

func concerns(problems []Problem, key string) bool {
	return slices.ContainsFunc(problems, func(p Problem) bool { return p.Key == key })
}

// closed says why no port has a use for a key of these protocols.
func (s Settings) closed(kind Kind, of []Protocol) string {
	if len(s.Ports) == 0 {
		return fmt.Sprintf("no port of the %s is open to pods: that takes a label %s%s", kind, portPrefix, portPlaceholder)
	}
	others := slices.Sorted(maps.Keys(s.Ports))
	if of == nil || slices.ContainsFunc(others, func(port uint16) bool { return slices.Contains(of, s.Ports[port]) }) {
		return ""
	}
	are := some(others, func(port uint16) string { return fmt.Sprintf("%d is %s", port, s.Ports[port]) })
	return fmt.Sprintf("it has a meaning for %s ports only, and %s", list(of, "and"), are)
}

// hashesNothing reports whether endpoints are picked at random, for want of something to hash.
func (s Settings) hashesNothing() bool {
	b := s.Balancing
	named := b.HashHeader != "" || b.HashCookie != ""
	for _, protocol := range s.Ports {
		if named && slices.Contains(requests, protocol) {
			return false
		}
	}
	return b.Hashes()
}

// lacks says which other label is missing for that one to do something.
func (s Settings) lacks(key string, labels map[string]string) (missing, reason string) {
	switch b := s.Balancing; {
	case key == delayTimeKey && labels[delayPercentageKey] == "":
		return delayPercentageKey, "no request is delayed without " + delayPercentageKey
	case key == delayPercentageKey && s.Fault.DelayPercentage > 0 && s.Fault.Delay == 0:
		return delayTimeKey, "no request is delayed without " + delayTimeKey
	case key == abortStatusKey && labels[abortPercentageKey] == "":
		return abortPercentageKey, "no request is aborted without " + abortPercentageKey
	case key == samplingKey && !s.Tracing.Enabled:
		return TracingKey, "no request is traced without " + TracingKey + "=true"
	case key == maxRetriesKey && s.Retries == (Retries{}):
		return "", "nothing is tried again without " + serverErrorKey + " or another label of its kind"
	case key == cookieTTLKey && b.HashCookie == "":
		return cookieNameKey, "no cookie is given without " + cookieNameKey
	case (key == cookieNameKey || key == cookieTTLKey || key == headerNameKey) && !b.Hashes():
		return "", fmt.Sprintf("%s hashes nothing: it needs %s=RING_HASH or MAGLEV", b.Policy, PolicyKey)
	}
	return "", ""
}

// Untraced adds to the problems of an object the label by which its requests are to be traced, for where no collector is
// configured. That is told instead of what else keeps the label from acting.
func (s Settings) Untraced(labels map[string]string, problems []Problem) []Problem {
	if !s.Tracing.Enabled {
		return problems
	}
	others := slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool { return p.Key == TracingKey })
	return append(others, Problem{
		Key: TracingKey, Value: labels[TracingKey],
		Reason:  "no collector is configured: set tracing.address in the chart's values",
		InForce: "nothing",
	})
}

// NeverInjected tells of a label that opts in where the webhook never gets a pod: in a namespace on which it depends itself.
func NeverInjected(namespace, value string) Problem {
	return Problem{
		Key: EnabledKey, Value: value, Reason: "pods of namespace " + namespace + " are never injected", InForce: "pods without Envoy",
	}
}

// list joins words as a sentence does: a, b and c.
func list[T fmt.Stringer](things []T, last string) string {
	words := make([]string, len(things))
	for i, t := range things {
		words[i] = t.String()
	}
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return strings.Join(words[:len(words)-1], ", ") + " " + last + " " + words[len(words)-1]
}

// mostNamed bounds how many of an object's ports a reason names: it may have ten thousand, and as many labels, and one reason each.
const mostNamed = 10

// some names things, of very many the first.
func some[T any](things []T, name func(T) string) string {
	var words []string
	for _, thing := range things[:min(len(things), mostNamed)] {
		words = append(words, name(thing))
	}
	text := strings.Join(words, ", ")
	if more := len(things) - mostNamed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
