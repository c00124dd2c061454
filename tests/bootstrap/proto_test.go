package bootstrap_test

import (
	"os/exec"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/credential_injector/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/upstream_codec/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/http/injected_credentials/generic/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// every is each kind of bootstrap that the flags can make.
func every(t *testing.T) map[string]inject.Config {
	ca, _ := certificates(t)
	kinds := map[string]inject.Config{}
	for _, policy := range []inject.Policy{inject.Block, inject.Passthrough} {
		for name, ipv6 := range map[string]bool{"IPv6": true, "IPv4 only": false} {
			c := injected.Config(18000, ca)
			c.OutboundPolicy, c.IPv6 = policy, ipv6
			kinds[string(policy)+", "+name] = c
		}
	}
	return kinds
}

// TestBootstrapIsProto: a misspelt field would be an error of Envoy in every pod.
func TestBootstrapIsProto(t *testing.T) {
	for name, conf := range every(t) {
		t.Run(name, func(t *testing.T) {
			pod := injected.Pod(t, "shop", "web-0", conf)
			args := pod.Spec.InitContainers[0].Args
			var bootstrap bootstrapv3.Bootstrap
			if err := protojson.Unmarshal([]byte(args[len(args)-1]), &bootstrap); err != nil {
				t.Fatal(err)
			}
			if err := bootstrap.ValidateAll(); err != nil {
				t.Error(err)
			}
			var file discovery.DiscoveryResponse
			if err := protojson.Unmarshal([]byte(pod.Annotations[inject.TokenFileAnnotation]), &file); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestEnvoyAccepts: Envoy itself finds nothing wrong, nor deprecated.
func TestEnvoyAccepts(t *testing.T) {
	for name, conf := range every(t) {
		t.Run(name, func(t *testing.T) {
			pod := injected.Pod(t, "shop", "web-0", conf)
			args := pod.Spec.InitContainers[0].Args
			folder := volumes(t, pod, "token")
			text := injected.Expand(pod, podIPv4, folder).Replace(args[len(args)-1])
			out, err := exec.Command(envoy, "--mode", "validate", "--log-level", "warning", "--config-yaml", text).CombinedOutput()
			if err != nil || strings.Contains(string(out), "Deprecated") || !strings.Contains(string(out), "OK") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
