package label

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A ServiceSpec is what decides whether a label can open a port of a Service, and what it does there. Its fields are those
// of the API.
type ServiceSpec struct {
	Type            string `json:"type"`
	ClusterIP       string `json:"clusterIP"`
	SessionAffinity string `json:"sessionAffinity"`
	// InternalTrafficPolicy is Local for a Service whose clients reach the endpoints of their own node only.
	InternalTrafficPolicy string        `json:"internalTrafficPolicy"`
	Ports                 []ServicePort `json:"ports"`
}

// Headless reports whether clients reach the Service at the addresses of its endpoints.
func (s ServiceSpec) Headless() bool { return s.ClusterIP == "None" && s.Type != externalName }

const externalName = "ExternalName"

// A ServicePort is one port of a Service.
type ServicePort struct {
	Port     int32  `json:"port"` // 1 to 65535
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // empty is TCP
}

// IsTCP reports whether it is a TCP port.
func (p ServicePort) IsTCP() bool { return p.Protocol == "TCP" || p.Protocol == "" }

// Opened returns the ports that the labels of a Service open, sorted by number, and tells of labels that open none, or that
// do not do there what the Service asks for. The settings are what Parse made of the labels.
func (s ServiceSpec) Opened(labels map[string]string, settings Settings) (open []ServicePort, unmet []Problem) {
	for _, number := range slices.Sorted(maps.Keys(settings.Ports)) {
		key := PortKey(number)
		port, reason := s.find(int32(number))
		if reason != "" {
			unmet = append(unmet, Problem{Key: key, Value: labels[key], Reason: reason, InForce: "nothing is opened"})
			continue
		}
		open = append(open, port)
		if reason := s.forgets(settings, number); reason != "" {
			unmet = append(unmet, Problem{Key: key, Value: labels[key], Reason: reason, InForce: "no affinity"})
		}
		if s.InternalTrafficPolicy == "Local" && !s.Headless() && settings.Ports[number] != Direct {
			reason := "Envoy balances over the endpoints of all nodes, whatever internalTrafficPolicy says: direct leaves that to Kubernetes"
			unmet = append(unmet, Problem{Key: key, Value: labels[key], Reason: reason, InForce: "endpoints of all nodes"})
		}
	}
	return open, append(unmet, s.picksNothing(labels, settings)...)
}

// find returns the TCP port of that number, or why it cannot be opened.
func (s ServiceSpec) find(number int32) (ServicePort, string) {
	if s.Type == externalName {
		return ServicePort{}, "an ExternalName Service has no address: label the Service that it names, or exclude what it names " +
			"from the redirect with the pod annotation traffic.envoy.exclude-cidrs"
	}
	reason := ""
	for _, p := range s.Ports {
		switch {
		case p.Port != number:
		case p.IsTCP():
			return p, ""
		default:
			reason = fmt.Sprintf("port %d is %s, and only TCP goes through Envoy", number, p.Protocol)
		}
	}
	if reason == "" {
		reason = s.lacks(number)
	}
	return ServicePort{}, reason
}

// forgets says what to do for the affinity to a client's address, which kube-proxy keeps and Envoy does not. A headless
// Service has none to lose.
func (s ServiceSpec) forgets(settings Settings, port uint16) string {
	protocol := settings.Ports[port]
	if s.SessionAffinity != "ClientIP" || s.Headless() || protocol == Direct {
		return ""
	}
	if protocol == TCP {
		return "Envoy balances each connection, whatever sessionAffinity says: direct leaves them to Kubernetes"
	}
	if settings.Balancing.Hashes() && !settings.hashesNothing() {
		return ""
	}
	return fmt.Sprintf("Envoy balances each request, whatever sessionAffinity says: set %s=RING_HASH with %s or %s, or direct",
		PolicyKey, cookieNameKey, headerNameKey)
}

// picksNothing tells of a policy where no port of a headless Service has requests: its connections go where they were
// dialled.
func (s ServiceSpec) picksNothing(labels map[string]string, settings Settings) []Problem {
	protocols := slices.Collect(maps.Values(settings.Ports))
	picks := func(p Protocol) bool { return slices.Contains(requests, p) }
	if !s.Headless() || labels[PolicyKey] == "" || !slices.Contains(protocols, TCP) || slices.ContainsFunc(protocols, picks) {
		return nil
	}
	return []Problem{{
		Key: PolicyKey, Value: labels[PolicyKey],
		Reason:  "a tcp connection to a headless Service goes to the address that was dialled",
		InForce: "nothing",
	}}
}

// lacks says that there is no port of that number, and which there are.
func (s ServiceSpec) lacks(number int32) string {
	if len(s.Ports) == 0 {
		return "the Service has no ports"
	}
	return fmt.Sprintf("the Service has no port %d, only %s", number, PortNames(s.Ports))
}

// PortNames says which ports there are, of very many the first.
func PortNames(ports []ServicePort) string {
	return some(ports, func(p ServicePort) string { return strings.TrimSpace(fmt.Sprintf("%d %s", p.Port, p.Name)) })
}
