package mesh

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"

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
	for _, number := range slices.Sorted(maps.Keys(s.settings.Ports)) {
		port, reason := s.find(number)
		if reason != "" {
			o.shut = append(o.shut, s.problem(number, reason, "nothing is opened"))
			continue
		}
		o.open = append(o.open, openPort{number: number, name: port.name, protocol: s.settings.Ports[number]})
	}
	if m.config.KubernetesAPI && s.isKubernetesAPI() {
		o.openRest(label.Direct)
	}
	return o
}

// find returns the TCP port of that number, or why it cannot be opened.
func (s *service) find(number uint16) (servicePort, string) {
	switch {
	case s.kind == corev1.ServiceTypeExternalName:
		return servicePort{}, "an ExternalName Service has no address of its own"
	case s.headless:
		return servicePort{}, "a headless Service has no cluster IP"
	}
	reason := fmt.Sprintf("the Service has no port %d, only %s", number, s.portList())
	for _, p := range s.ports {
		switch {
		case p.number != number:
		case p.protocol == corev1.ProtocolTCP || p.protocol == "":
			return p, ""
		default:
			reason = fmt.Sprintf("port %d is %s, and only TCP goes through Envoy", number, p.protocol)
		}
	}
	return servicePort{}, reason
}

func (s *service) portList() string {
	var words []string
	for _, p := range s.ports {
		words = append(words, strings.TrimSpace(fmt.Sprintf("%d %s", p.number, p.name)))
	}
	if len(words) == 0 {
		return "none"
	}
	return strings.Join(words, ", ")
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
	for _, p := range o.ports {
		_, labelled := o.settings.Ports[p.number]
		if !labelled && (p.protocol == corev1.ProtocolTCP || p.protocol == "") {
			o.open = append(o.open, openPort{number: p.number, name: p.name, protocol: protocol})
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
