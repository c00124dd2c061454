package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// Backend returns a port of a Service, by name or else by number, as the gateway sees it, whether or not a label opens it to
// pods. Its protocol is zero where no label says one. Endpoints are those that take requests; those of a direct port are its
// cluster IPs. It has no addresses: nobody dials it. The error says why there is no such port.
func (m *Mesh) Backend(service Object, name string, number int32) (Port, error) {
	s := m.services[service]
	if s == nil {
		return Port{}, fmt.Errorf("there is no %s", service)
	}
	if s.spec.Type == "ExternalName" {
		return Port{}, fmt.Errorf("%s is an ExternalName: the gateway sends requests into the cluster only", service)
	}
	found, err := s.portNamed(name, number)
	if err != nil {
		return Port{}, err
	}
	p := Port{
		Owner: service, Number: uint16(found.Port), Protocol: s.settings.Ports[uint16(found.Port)],
		Settings: s.settings, Headless: s.headless(),
	}
	if p.Protocol == label.Direct && len(s.clusterIPs) > 0 {
		for _, a := range s.clusterIPs {
			if a.Is6() == s.v6 {
				p.Endpoints = append(p.Endpoints, Endpoint{Address: netip.AddrPortFrom(a, p.Number), Weight: label.DefaultWeight})
			}
		}
		return p, nil
	}
	p.Endpoints = m.endpoints(m.candidates(s, found.Name).of(s.v6))
	return p, nil
}

// portNamed returns the TCP port of a name, or of a number if there is no name.
func (s *service) portNamed(name string, number int32) (label.ServicePort, error) {
	is := func(p label.ServicePort) bool { return name != "" && p.Name == name || name == "" && p.Port == number }
	for _, p := range s.spec.Ports {
		if is(p) && p.IsTCP() {
			return p, nil
		}
	}
	wanted := name
	if name == "" {
		wanted = fmt.Sprint(number)
	}
	others := slices.DeleteFunc(slices.Clone(s.spec.Ports), is)
	if len(others) == 0 {
		return label.ServicePort{}, fmt.Errorf("%s has no TCP port %s", s.object, wanted)
	}
	return label.ServicePort{}, fmt.Errorf("%s has no TCP port %s, only %s", s.object, wanted, label.PortNames(others))
}
