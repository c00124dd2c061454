package envoy

import (
	"cmp"
	"fmt"
	"net/netip"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// Config is what a person decides about all resources.
type Config struct {
	// AccessLog says which requests and connections proxies write to their standard output.
	AccessLog AccessLog
	// Collector is where proxies report traced requests.
	Collector Collector
	// ClusterDomain ends the names of Services; empty is DefaultClusterDomain.
	ClusterDomain string
}

// A Translator makes Envoy resources of open ports. It holds what is the same in all of them.
type Translator struct {
	accessLog       AccessLog
	httpLog, tcpLog []*accesslogv3.AccessLog
	httpFilters     []*hcmv3.HttpFilter
	upgrades        []*hcmv3.HttpConnectionManager_UpgradeConfig
	upstream        map[label.Protocol]map[string]*anypb.Any
	tracing         *tracing // nil without a collector
	clusterDomain   string
}

// NewTranslator returns a Translator; the error is of a configuration that cannot be marshalled.
func NewTranslator(c Config) (*Translator, error) {
	var (
		t   = Translator{accessLog: c.AccessLog, upgrades: upgradeConfigs(), clusterDomain: cmp.Or(c.ClusterDomain, DefaultClusterDomain)}
		err error
	)
	if t.httpLog, err = c.AccessLog.log(textFormat(httpFormat), httpErrors()); err != nil {
		return nil, err
	}
	if t.tcpLog, err = c.AccessLog.log(textFormat(tcpFormat), anyFlag()); err != nil {
		return nil, err
	}
	if t.httpFilters, err = httpFilters(); err != nil {
		return nil, err
	}
	if t.upstream, err = upstreamOptions(); err != nil {
		return nil, err
	}
	if t.tracing, err = newTracing(c.Collector); err != nil {
		return nil, err
	}
	return &t, nil
}

// Port returns the resources of an open port, what is referred to before what refers to it.
func (t *Translator) Port(p mesh.Port) ([]Resource, error) { return t.port(p, nil) }

// port takes a listener that is held already rather than make it again.
func (t *Translator) port(p mesh.Port, held map[Key]Resource) ([]Resource, error) {
	b := builder{owner: p.Owner}
	if t.traced(p) {
		b.resources = append(b.resources, t.tracing.cluster)
	}
	b.add(clusterName(p), t.cluster(p))
	if p.Balanced() {
		b.add(clusterName(p), endpoints(p))
	}
	switch p.Protocol {
	case label.HTTP, label.HTTP2:
		if split(p) {
			b.add(dialledName(p), t.dialledCluster(p))
		}
		r, err := t.route(p)
		if err != nil {
			return nil, fmt.Errorf("port %d of %s: %w", p.Number, p.Owner, err)
		}
		b.add(clusterName(p), r)
	case label.TCP, label.Direct:
	default:
		return nil, fmt.Errorf("port %d of %s: protocol %d is not known", p.Number, p.Owner, p.Protocol)
	}
	filter, err := t.filter(p)
	if err != nil {
		return nil, fmt.Errorf("port %d of %s: %w", p.Number, p.Owner, err)
	}
	for _, at := range p.Addresses {
		b.addListener(at, filter, held)
	}
	return b.resources, b.err
}

// A builder collects resources and keeps the first error.
type builder struct {
	owner     mesh.Object
	resources []Resource
	err       error
}

func (b *builder) add(name string, message proto.Message) {
	if b.err != nil {
		return
	}
	r, err := NewResource(b.owner, name, message)
	if err != nil {
		b.resources, b.err = nil, err
		return
	}
	b.resources = append(b.resources, r)
}

// addListener makes the listener of an address, unless one is held that was made of the same: of the thousand of a headless
// Service all but one are as they were when a pod comes or goes.
func (b *builder) addListener(at netip.AddrPort, f filter, held map[Key]Resource) {
	name := at.String()
	if r := held[Key{Type: resourcev3.ListenerType, Name: name}]; b.err == nil && r.Owner == b.owner && r.madeOf == f.version {
		b.resources = append(b.resources, r)
		return
	}
	b.add(name, listener(at, f.Filter))
	if b.err == nil {
		last := &b.resources[len(b.resources)-1]
		last.madeOf, last.Eager = f.version, f.eager
	}
}

// clusterName names the cluster of a port, its endpoints and its route. It is an interface: users' queries name it, as
// envoy_cluster_name="9080|default|reviews", or "8080|default|pod/reviews-0" of a Pod: a Service may have its name. Envoy
// takes what is before the first dot for the value of that label, so a dot in a pod's name becomes what no name can have.
func clusterName(p mesh.Port) string {
	name := p.Owner.Name
	if p.Owner.Kind == string(label.Pod) {
		name = "pod/" + strings.ReplaceAll(name, ".", "_")
	}
	return fmt.Sprintf("%d|%s|%s.outbound", p.Number, p.Owner.Namespace, name)
}

// ads is where proxies get endpoints, routes and secrets from. They wait for the first without an end: by default a proxy that
// lost the control plane between a listener and its routes would answer 404 after 15 seconds, and say that it is ready.
// Envoy identifies a subscription by these bytes, so they must never change: with others, a live listener or cluster
// subscribes anew and waits for an answer that it already had.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ResourceApiVersion:    corev3.ApiVersion_V3,
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// pack wraps the configuration of an extension, the same bytes for the same content.
func pack(message proto.Message) (*anypb.Any, error) {
	packed := &anypb.Any{}
	err := anypb.MarshalFrom(packed, message, proto.MarshalOptions{Deterministic: true})
	if err != nil {
		return nil, fmt.Errorf("marshal %s: %w", message.ProtoReflect().Descriptor().FullName(), err)
	}
	return packed, nil
}
