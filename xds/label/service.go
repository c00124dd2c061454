package label

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// A ServiceSpec is what decides whether a label can open a port of a Service. Its fields are those of the API.
type ServiceSpec struct {
	Type      string        `json:"type"`
	ClusterIP string        `json:"clusterIP"`
	Ports     []ServicePort `json:"ports"`
}

// A ServicePort is one port of a Service.
type ServicePort struct {
	Port     int32  `json:"port"` // 1 to 65535
	Name     string `json:"name"`
	Protocol string `json:"protocol"` // empty is TCP
}

// IsTCP reports whether it is a TCP port.
func (p ServicePort) IsTCP() bool { return p.Protocol == "TCP" || p.Protocol == "" }

// Opened returns the ports that the labels of a Service open, sorted by number, and tells of labels that open none. The
// settings are what Parse made of the labels.
func (s ServiceSpec) Opened(labels map[string]string, settings Settings) (open []ServicePort, shut []Problem) {
	for _, number := range slices.Sorted(maps.Keys(settings.Ports)) {
		port, reason := s.find(int32(number))
		if reason == "" {
			open = append(open, port)
			continue
		}
		key := PortKey(number)
		shut = append(shut, Problem{Key: key, Value: labels[key], Reason: reason, InForce: "nothing is opened"})
	}
	return open, shut
}

// find returns the TCP port of that number, or why it cannot be opened.
func (s ServiceSpec) find(number int32) (ServicePort, string) {
	switch {
	case s.Type == "ExternalName":
		return ServicePort{}, "an ExternalName Service has no address of its own"
	case s.ClusterIP == "None":
		return ServicePort{}, "a headless Service has no cluster IP"
	}
	reason := s.lacks(number)
	for _, p := range s.Ports {
		switch {
		case p.Port != number:
		case p.IsTCP():
			return p, ""
		default:
			reason = fmt.Sprintf("port %d is %s, and only TCP goes through Envoy", number, p.Protocol)
		}
	}
	return ServicePort{}, reason
}

// lacks says that there is no port of that number, and which there are.
func (s ServiceSpec) lacks(number int32) string {
	if len(s.Ports) == 0 {
		return "the Service has no ports"
	}
	var words []string
	for _, p := range s.Ports {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%d %s", p.Port, p.Name)))
	}
	return fmt.Sprintf("the Service has no port %d, only %s", number, strings.Join(words, ", "))
}
