package bootstrap_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// TestStatistics: the names that users' queries depend on are there, and a service that nobody calls costs few series.
func TestStatistics(t *testing.T) {
	const idle = 200
	s := newSandbox(t)
	var listener net.Listener
	injected.Inside(t, s.world, func() (err error) {
		listener, err = net.Listen("tcp4", nodeIPv4+":7000")
		return err
	})
	server := &http.Server{Handler: http.NotFoundHandler()}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })

	clusters := []*discovery.Resource{service(t, "9080|shop|reviews.outbound")}
	for i := range idle {
		clusters = append(clusters, service(t, fmt.Sprintf("80|shop|idle-%d.outbound", i)))
	}
	c := newControl(t, s, map[string][]*discovery.Resource{
		resource.ClusterType:  clusters,
		resource.ListenerType: {open(t, "10.96.0.9", 9080, "9080|shop|reviews.outbound")},
	}).open()
	pod := injected.Pod(t, "shop", "web-0", injected.Config(c.port, c.ca))
	injected.Redirect(t, s.pod, pod)
	s.run(t, pod, volumes(t, pod, "token")).ready(t)

	if _, body, err := get(s.pod, "http://10.96.0.9:9080/reviews/0"); err != nil || strings.Contains(body, "blocked") {
		t.Fatalf("%q, %v; want the service's own 404", body, err)
	}
	const labels = `{envoy_cluster_name="9080|shop|reviews"}`
	for _, want := range []string{
		"envoy_cluster_outbound_membership_total" + labels + " 1",
		"envoy_cluster_outbound_membership_healthy" + labels + " 1",
		"envoy_cluster_outbound_upstream_cx_total" + labels + " 1",
		"envoy_cluster_outbound_upstream_rq_total" + labels + " 1",
		"envoy_cluster_outbound_upstream_rq_completed" + labels + " 1",
		"envoy_cluster_outbound_upstream_rq_timeout" + labels + " 0",
		"envoy_cluster_outbound_upstream_rq_retry" + labels + " 0",
		"envoy_cluster_outbound_upstream_rq_retry_overflow" + labels + " 0",
		"envoy_cluster_outbound_upstream_rq_pending_overflow" + labels + " 0",
		"envoy_cluster_outbound_upstream_rq_active_overflow" + labels + " 0",
		"envoy_cluster_outbound_upstream_cx_overflow" + labels + " 0",
		`envoy_cluster_outbound_upstream_rq_xx{envoy_response_code_class="4",envoy_cluster_name="9080|shop|reviews"} 1`,
		"envoy_cluster_outbound_upstream_rq_time_count" + labels + " 1",
		`envoy_http_downstream_rq_total{envoy_http_conn_manager_prefix="outbound"} 1`,
	} {
		eventually(t, want, func() error {
			_, metrics, err := get(s.world, "http://"+podIPv4+":8900/stats/prometheus")
			if err == nil && !strings.Contains(metrics, want+"\n") {
				err = fmt.Errorf("not in\n%s", grep(metrics, "reviews", "downstream_rq"))
			}
			return err
		})
	}
	_, metrics, err := get(s.world, "http://"+podIPv4+":8900/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(grep(metrics, "idle-"), "\n"); n > 2*idle {
		t.Errorf("%d services that nobody calls have %d series, want at most two each:\n%s", idle, n, grep(metrics, "idle-7\""))
	}
	if n := strings.Count(grep(metrics, "{"), "\n") - 2*idle; n > 300 {
		t.Errorf("a sidecar has %d series besides those of idle services, want at most 300", n)
	}
}

// grep returns the lines that contain any of the words, comments left out.
func grep(text string, words ...string) string {
	var found strings.Builder
	for line := range strings.Lines(text) {
		for _, word := range words {
			if strings.Contains(line, word) && !strings.HasPrefix(line, "#") {
				found.WriteString(line)
				break
			}
		}
	}
	return found.String()
}

// service is a cluster whose one endpoint is the server in the world.
func service(t *testing.T, name string) *discovery.Resource {
	endpoint := &endpointv3.LbEndpoint{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address(nodeIPv4, 7000)}}}
	return packed(t, name, &clusterv3.Cluster{
		Name:                 name,
		ConnectTimeout:       durationpb.New(time.Second),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{endpoint},
		}}},
	})
}

// open is the listener of one service address.
func open(t *testing.T, ip string, port uint32, cluster string) *discovery.Resource {
	router := &hcmv3.HttpConnectionManager{
		StatPrefix: "outbound",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
			VirtualHosts: []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: []*routev3.Route{{
				Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
				Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
			}}}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, "", &routerv3.Router{}).Resource},
		}},
	}
	return packed(t, "reviews", &listenerv3.Listener{
		Name: "reviews", Address: address(ip, port), BindToPort: wrapperspb.Bool(false),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "hcm", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, "", router).Resource},
		}}}},
	})
}

func address(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func packed(t *testing.T, name string, m proto.Message) *discovery.Resource {
	t.Helper()
	content, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return &discovery.Resource{Name: name, Version: "1", Resource: content}
}
