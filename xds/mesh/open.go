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
	// shut tells of labels that open nothing.
	shut []label.Problem
}

type openPort struct {
	number   uint16
	name     string
	protocol label.Protocol
}

// open decides which ports of a Service are open.
func (m *Mesh) open(s *service) *openService {
	o := &openService{service: s}
	ports, shut := s.spec.Opened(s.labels, s.settings)
	o.shut = shut
	for _, p := range ports {
		o.open = append(o.open, openPort{number: uint16(p.Port), name: p.Name, protocol: s.settings.Ports[uint16(p.Port)]})
	}
	if m.config.KubernetesAPI && s.isKubernetesAPI() {
		o.openRest(label.Direct)
	}
	return o
}

// problem is one with the label that opens a port.
func (s *service) problem(port uint16, reason, inForce string) label.Problem {
	key := label.PortKey(port)
	return label.Problem{Key: key, Value: s.labels[key], Reason: reason, InForce: inForce}
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

// claims yields each address and port that the Service opens, once.
func (o *openService) claims() iter.Seq2[netip.AddrPort, claim] {
	return func(yield func(netip.AddrPort, claim) bool) {
		if o == nil {
			return
		}
		for _, port := range o.open {
			for address, clusterIP := range o.addresses() {
				by := claim{service: o.object, clusterIP: clusterIP, created: o.created}
				if !yield(netip.AddrPortFrom(address, port.number), by) {
					return
				}
			}
		}
	}
}

// addresses yields the addresses of a Service, each once, and whether it is a cluster IP.
func (s *service) addresses() iter.Seq2[netip.Addr, bool] {
	return func(yield func(netip.Addr, bool) bool) {
		for _, a := range s.clusterIPs {
			if !yield(a, true) {
				return
			}
		}
		for _, a := range s.otherIPs {
			if !slices.Contains(s.clusterIPs, a) && !yield(a, false) {
				return
			}
		}
	}
}
