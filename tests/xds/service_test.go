package xds

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// A service is an open port of a Service, at a cluster IP where nobody answers but Envoy.
type service struct {
	mesh.Port
}

// newService opens port 80 of a service with the endpoints at these ports of the outside.
func newService(name string, protocol label.Protocol, backends ...uint16) *service {
	s := &service{mesh.Port{
		Service: mesh.Object{Kind: "Service", Namespace: "default", Name: name}, Number: 80, Protocol: protocol,
		Addresses: []netip.Addr{clusterIP(name)},
	}}
	for _, port := range backends {
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{
			Address: netip.AddrPortFrom(netip.MustParseAddr(outsideAddress), port), Weight: 100,
		})
	}
	return s
}

// clusterIP is an address of its own for each name.
func clusterIP(name string) netip.Addr {
	sum := 0
	for _, b := range []byte(name) {
		sum = sum*31 + int(b)
	}
	return netip.AddrFrom4([4]byte{10, 96, byte(sum >> 8), byte(sum)})
}

func (s *service) address() string { return fmt.Sprintf("%s:%d", s.Addresses[0], s.Number) }

func (s *service) listener() string { return s.address() }

// resources are what the control plane makes of it.
func (s *service) resources(t *testing.T) []envoy.Resource {
	t.Helper()
	translator, err := envoy.NewTranslator(envoy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	resources, err := translator.Port(s.Port)
	if err != nil {
		t.Fatal(err)
	}
	return resources
}

// open makes an update of services.
func open(t *testing.T, services ...*service) (u serve.Update) {
	t.Helper()
	for _, s := range services {
		u.Set = append(u.Set, s.resources(t)...)
	}
	return u
}

// closing makes an update that takes a service away.
func closing(t *testing.T, s *service) (u serve.Update) {
	t.Helper()
	for _, r := range s.resources(t) {
		u.Remove = append(u.Remove, r.Key)
	}
	return u
}
