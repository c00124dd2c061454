package envoy

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	tracev3 "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	dnsfamilyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	detectorsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/tracers/opentelemetry/resource_detectors/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A Collector is where proxies send the spans of traced requests.
type Collector struct {
	Kind CollectorKind
	// Address is none for no collector: then no request is traced, whatever labels say.
	Address CollectorAddress
}

// A CollectorKind is the protocol of a collector.
type CollectorKind string

// The values of CollectorKind.
const (
	Zipkin CollectorKind = "zipkin" // JSON of Zipkin's API v2, which other collectors take too
	OTLP   CollectorKind = "otlp"   // OpenTelemetry's protocol, over gRPC
)

// Set parses the value of a flag.
func (k *CollectorKind) Set(text string) error {
	switch value := CollectorKind(text); value {
	case Zipkin, OTLP:
		*k = value
		return nil
	}
	return fmt.Errorf("collector kind %q is not %s or %s", text, Zipkin, OTLP)
}

func (k *CollectorKind) String() string { return string(*k) }

// A CollectorAddress is a host, by name or address, and a port.
type CollectorAddress struct {
	Host string
	Port uint16
}

var hostName = regexp.MustCompile(`^([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)

// Set parses the value of a flag; an empty one is no collector.
func (a *CollectorAddress) Set(text string) error {
	if text == "" {
		*a = CollectorAddress{}
		return nil
	}
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		return fmt.Errorf("collector address %q is not host:port: %w", text, err)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 {
		return fmt.Errorf("collector address %q: port %q is not from 1 to 65535", text, port)
	}
	if net.ParseIP(host) == nil && (!hostName.MatchString(host) || len(host) > 253) {
		return fmt.Errorf("collector address %q: %q is neither a host name nor an IP address", text, host)
	}
	*a = CollectorAddress{Host: host, Port: uint16(number)}
	return nil
}

func (a *CollectorAddress) String() string {
	if *a == (CollectorAddress{}) {
		return ""
	}
	return net.JoinHostPort(a.Host, strconv.Itoa(int(a.Port)))
}

// collectorCluster is the collector in statistics: one of the sidecar's own clusters, whose names have no dot.
const collectorCluster = "traffic-tracing"

// How long proxies wait for a collector, and how much they hold meanwhile: what is more is dropped, because spans are
// worth less than the memory of an application.
const (
	collectorTimeout     = 5 * time.Second
	collectorConnections = 16
	collectorPending     = 64
)

// tracing is what all traced ports share.
type tracing struct {
	manager *hcmv3.HttpConnectionManager_Tracing
	// cluster belongs to no object: it is what a person configured.
	cluster Resource
}

// newTracing returns nil without a collector.
func newTracing(c Collector) (*tracing, error) {
	if c.Address == (CollectorAddress{}) {
		return nil, nil
	}
	name, configuration := "envoy.tracers.zipkin", c.zipkin
	if c.Kind == OTLP {
		name, configuration = "envoy.tracers.opentelemetry", c.otlp
	}
	message, err := configuration()
	if err != nil {
		return nil, err
	}
	config, err := pack(message)
	if err != nil {
		return nil, err
	}
	cluster, err := c.cluster()
	if err != nil {
		return nil, err
	}
	return &tracing{
		manager: &hcmv3.HttpConnectionManager_Tracing{Provider: &tracev3.Tracing_Http{
			Name: name, ConfigType: &tracev3.Tracing_Http_TypedConfig{TypedConfig: config},
		}},
		cluster: cluster,
	}, nil
}

// zipkin gives applications the headers of B3 and of W3C, so that they can forward those that they know.
func (c Collector) zipkin() (proto.Message, error) {
	return &tracev3.ZipkinConfig{
		CollectorService: &corev3.HttpService{HttpUri: &corev3.HttpUri{
			Uri:              "http://" + c.Address.String() + "/api/v2/spans",
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: collectorCluster},
			Timeout:          durationpb.New(collectorTimeout),
		}},
		CollectorEndpointVersion: tracev3.ZipkinConfig_HTTP_JSON,
		TraceId_128Bit:           true, // as W3C has it
		SharedSpanContext:        wrapperspb.Bool(false),
		TraceContextOption:       tracev3.ZipkinConfig_USE_B3_WITH_W3C_PROPAGATION,
	}, nil
}

// otlp takes the pod's name from the sidecar's environment: in the resources, which all proxies share, it cannot be.
func (c Collector) otlp() (proto.Message, error) {
	const name = "envoy.tracers.opentelemetry.resource_detectors.environment"
	environment, err := pack(&detectorsv3.EnvironmentResourceDetectorConfig{})
	if err != nil {
		return nil, err
	}
	return &tracev3.OpenTelemetryConfig{
		GrpcService: &corev3.GrpcService{
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: collectorCluster, Authority: c.Address.String(),
			}},
			Timeout: durationpb.New(collectorTimeout),
		},
		ResourceDetectors: []*corev3.TypedExtensionConfig{{Name: name, TypedConfig: environment}},
	}, nil
}

// cluster is the way to the collector. Nothing waits for it: neither the listeners that report to it, nor a pod's start.
func (c Collector) cluster() (Resource, error) {
	discovery, err := pack(&dnsv3.DnsCluster{
		// The name of a Service keeps its address. Every pod asks.
		DnsRefreshRate: durationpb.New(30 * time.Second),
		DnsJitter:      durationpb.New(10 * time.Second),
		DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{
			BaseInterval: durationpb.New(2 * time.Second), MaxInterval: durationpb.New(30 * time.Second),
		},
		// A pod may have no IPv6 where the collector has both.
		DnsLookupFamily: dnsfamilyv3.DnsLookupFamily_V4_PREFERRED,
	})
	if err != nil {
		return Resource{}, err
	}
	cluster := &clusterv3.Cluster{
		Name: collectorCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.dns", TypedConfig: discovery,
		}},
		WaitForWarmOnInit: wrapperspb.Bool(false),
		ConnectTimeout:    durationpb.New(time.Second),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			MaxConnections:     wrapperspb.UInt32(collectorConnections),
			MaxPendingRequests: wrapperspb.UInt32(collectorPending),
			MaxRequests:        wrapperspb.UInt32(collectorPending),
		}}},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: collectorCluster,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
						Address: c.Address.Host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(c.Address.Port)},
					}}},
				}},
			}}}},
		},
	}
	if c.Kind == OTLP {
		options, err := upstreamOptions()
		if err != nil {
			return Resource{}, err
		}
		cluster.TypedExtensionProtocolOptions = options[label.HTTP2]
	}
	return NewResource(mesh.Object{}, collectorCluster, cluster)
}

// traced reports whether requests to a port are reported to the collector. It is the one setting of a request that is in
// the listener: with a collector there, Envoy adds headers to every request and reports what others trace, even where it
// samples nothing itself.
func (t *Translator) traced(p mesh.Port) bool {
	http := p.Protocol == label.HTTP || p.Protocol == label.HTTP2
	return t.tracing != nil && p.Settings.Tracing.Enabled && http
}

// reports is a traced port's way to the collector.
func (t *Translator) reports(p mesh.Port) *hcmv3.HttpConnectionManager_Tracing {
	if !t.traced(p) {
		return nil
	}
	return t.tracing.manager
}

// sampling is the share of requests that start a trace; nil is all. Envoy decides by the last four digits of the request's
// id, which it holds against the numerator: with any other denominator the share is wrong, and silently so.
func sampling(s label.Tracing) *routev3.Tracing {
	if !s.Enabled || s.Sampling == nil {
		return nil
	}
	return &routev3.Tracing{RandomSampling: &typev3.FractionalPercent{
		Numerator: uint32(*s.Sampling / (label.Hundred / 10_000)), Denominator: typev3.FractionalPercent_TEN_THOUSAND,
	}}
}
