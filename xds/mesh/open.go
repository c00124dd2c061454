package mesh

import (
	"iter"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// An openService is a Service with what its labels, and the rules without a label, open of it.
type openService struct {
	*service
	open []openPort // sorted by number
	// unmet tells of labels that open nothing, and of what the Service asks for and does not get.
	unmet []label.Problem
}

type openPort struct {
	number   uint16
	name     string
	protocol label.Protocol
}

// open decides which ports of a Service are open.
func (m *Mesh) open(s *service) *openService {
	o := &openService{service: s}
	ports, unmet := s.spec.Opened(s.labels, s.settings)
	o.unmet = unmet
	for _, p := range ports {
		o.open = append(o.open, openPort{number: uint16(p.Port), name: p.Name, protocol: s.settings.Ports[uint16(p.Port)]})
	}
	if m.config.KubernetesAPI && s.isKubernetesAPI() {
		o.openRest(label.Direct)
	}
	return o
}

// problem is one with the label that opens a port.
func (l labelled) problem(port uint16, reason, inForce string) label.Problem {
	key := label.OpenedBy(l.labels, port)
	return label.Problem{Key: key, Value: l.labels[key], Reason: reason, InForce: inForce}
}

// isKubernetesAPI reports whether it is the Service through which pods reach the API server.
func (s *service) isKubernetesAPI() bool {
	return s.object.Namespace == corev1.NamespaceDefault && s.object.Name == "kubernetes"
}

// openRest opens the TCP ports for which there is no valid label.
func (o *openService) openRest(protocol label.Protocol) {
	for _, p := range o.spec.Ports {
		number := uint16(p.Port)
		if _, labelled := o.settings.Ports[number]; !labelled && p.IsTCP() {
			o.open = append(o.open, openPort{number: number, name: p.Name, protocol: protocol})
		}
	}
	slices.SortFunc(o.open, func(a, b openPort) int { return int(a.number) - int(b.number) })
}

// addresses yields the addresses of a Service with a cluster IP, each once, and the right to each.
func (s *service) addresses() iter.Seq2[netip.Addr, right] {
	return func(yield func(netip.Addr, right) bool) {
		for _, a := range s.clusterIPs {
			if !yield(a, clusterIP) {
				return
			}
		}
		for _, a := range s.otherIPs {
			if !slices.Contains(s.clusterIPs, a) && !yield(a, externalIP) {
				return
			}
		}
	}
}
