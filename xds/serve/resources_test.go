package serve

import (
	"fmt"
	"strings"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// Each of these makes a resource of a name and a revision; resources of the same revision are equal.

func cluster(name string, revision int) envoy.Resource {
	ads := &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
	}
	return resource(name, &clusterv3.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(time.Second + millis(revision)),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads},
	})
}

// staticCluster needs no endpoints.
func staticCluster(name string, revision int) envoy.Resource {
	return resource(name, &clusterv3.Cluster{Name: name, ConnectTimeout: durationpb.New(time.Second + millis(revision))})
}

func endpoint(name string, revision int) envoy.Resource {
	return resource(name, &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Policy:      &endpointv3.ClusterLoadAssignment_Policy{EndpointStaleAfter: durationpb.New(time.Second + millis(revision))},
	})
}

// listener takes its routes from route configuration rds, unless that is empty.
func listener(name, rds string, revision int) envoy.Resource {
	l := &listenerv3.Listener{Name: name, StatPrefix: fmt.Sprint("revision-", revision)}
	if rds != "" {
		manager := packed(&hcmv3.HttpConnectionManager{
			StatPrefix: "test",
			RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
				RouteConfigName: rds,
				ConfigSource: &corev3.ConfigSource{
					ResourceApiVersion:    corev3.ApiVersion_V3,
					ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
				},
			}},
		})
		l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager},
		}}}}
	}
	return resource(name, l)
}

func route(name string, revision int) envoy.Resource {
	return resource(name, &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name: fmt.Sprint("revision-", revision), Domains: []string{"*"},
		}},
	})
}

func secret(name string, revision int) envoy.Resource {
	return resource(name, &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_GenericSecret{
		GenericSecret: &tlsv3.GenericSecret{Secret: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: fmt.Sprint("revision-", revision)},
		}},
	}})
}

// hugeCluster and hugeEndpoint are of about a MiB.
func hugeCluster(name string) envoy.Resource {
	return resource(name, &clusterv3.Cluster{Name: name, AltStatName: strings.Repeat("x", 1<<20)})
}

func hugeEndpoint(name string) envoy.Resource {
	return resource(name, &endpointv3.ClusterLoadAssignment{
		ClusterName: name,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_EndpointName{EndpointName: strings.Repeat("x", 1<<20)},
		}}}},
	})
}

func resource(name string, m proto.Message) envoy.Resource {
	r, err := envoy.NewResource(mesh.Object{Kind: "Service", Namespace: "default", Name: name}, name, m)
	if err != nil {
		panic(err)
	}
	return r
}

func packed(m proto.Message) *anypb.Any {
	a, err := anypb.New(m)
	if err != nil {
		panic(err)
	}
	return a
}

func set(resources ...envoy.Resource) Update { return Update{Set: resources} }

// remove makes an update that removes "type name" pairs.
func remove(typeURL string, names ...string) Update {
	var u Update
	for _, name := range names {
		u.Remove = append(u.Remove, envoy.Key{Type: typeURL, Name: name})
	}
	return u
}

func millis(revision int) time.Duration { return time.Duration(revision) * time.Millisecond }
