package label

import "strings"

// overruled tells of the labels of a Pod that name a port in the spelling that loses, because the other names it too.
func overruled(labels map[string]string) []Problem {
	var problems []Problem
	for _, key := range trafficKeys(labels) {
		port, ok := strings.CutPrefix(key, targetPortPrefix)
		winner := portPrefix + port
		p, _, err := protocol.parse(labels[winner])
		if !ok || err != nil {
			continue
		}
		if other, _, err := protocol.parse(labels[key]); err == nil && other != p {
			problems = append(problems, Problem{Key: key, Value: labels[key], Reason: winner + " is set too", InForce: p.String()})
		}
	}
	return problems
}
