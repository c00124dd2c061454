package xds

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
		Owner: mesh.Object{Kind: "Service", Namespace: "default", Name: name}, Number: 80, Protocol: protocol,
		Addresses: []netip.AddrPort{netip.AddrPortFrom(clusterIP(name), 80)},
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

func (s *service) address() string { return s.Addresses[0].String() }

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

// retimed is a service whose cluster differs by its revision, so that it warms anew.
func retimed(t *testing.T, s *service, revision int) []envoy.Resource {
	t.Helper()
	resources := s.resources(t)
	for i, r := range resources {
		if r.Type == resourcev3.ClusterType {
			resources[i] = changed(t, r, &clusterv3.Cluster{}, func(c *clusterv3.Cluster) {
				c.ConnectTimeout = durationpb.New(c.GetConnectTimeout().AsDuration() + time.Duration(revision)*time.Millisecond)
			})
		}
	}
	return resources
}

// changed is a resource with something else in it.
func changed[M proto.Message](t *testing.T, r envoy.Resource, message M, change func(M)) envoy.Resource {
	t.Helper()
	if err := proto.Unmarshal(r.Body.GetValue(), message); err != nil {
		t.Fatal(err)
	}
	change(message)
	made, err := envoy.NewResource(r.Owner, r.Name, message)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// different is a service of which every resource differs from what it was.
func different(t *testing.T, s *service) []envoy.Resource {
	t.Helper()
	other := *s
	other.Endpoints = slices.Clone(s.Endpoints)
	other.Endpoints[0].Weight = 7
	resources := retimed(t, &other, 7)
	for i, r := range resources {
		switch r.Type {
		case resourcev3.RouteType:
			resources[i] = changed(t, r, &routev3.RouteConfiguration{}, func(c *routev3.RouteConfiguration) {
				c.GetVirtualHosts()[0].Name = "different"
			})
		case resourcev3.ListenerType:
			resources[i] = changed(t, r, &listenerv3.Listener{}, func(l *listenerv3.Listener) {
				l.PerConnectionBufferLimitBytes = wrapperspb.UInt32(1 << 19)
			})
		}
	}
	return resources
}
