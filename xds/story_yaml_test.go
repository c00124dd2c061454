package xds_test

import (
	"bytes"
	"cmp"
	"maps"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// decode reads Kubernetes objects, as kubectl would, and says how a player is told of each.
func decode(t *testing.T, f txtar.File) map[mesh.Object]func(*player) {
	objects := map[mesh.Object]func(*player){}
	for _, document := range bytes.Split(f.Data, []byte("\n---\n")) {
		var head metav1.PartialObjectMetadata
		if err := yaml.Unmarshal(document, &head); err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
		if head.Namespace == "" && head.Kind != "IngressClass" {
			head.Namespace = "default"
		}
		o := mesh.Object{Kind: head.Kind, Namespace: head.Namespace, Name: head.Name}
		switch o.Kind {
		case "Service":
			s := into(t, f.Name, document, &corev1.Service{})
			s.Namespace = o.Namespace
			objects[o] = func(pl *player) { pl.mesh.SetService(s) }
		case "EndpointSlice":
			s := into(t, f.Name, document, &discoveryv1.EndpointSlice{})
			s.Namespace = o.Namespace
			objects[o] = func(pl *player) { pl.mesh.SetEndpointSlice(s) }
		case "Pod":
			p := into(t, f.Name, document, &corev1.Pod{})
			p.Namespace = o.Namespace
			objects[o] = func(pl *player) { pl.mesh.SetPod(p) }
		case "Ingress":
			i := into(t, f.Name, document, &networkingv1.Ingress{})
			i.Namespace = o.Namespace
			objects[o] = func(pl *player) { pl.ingresses.SetIngress(i) }
		case "IngressClass":
			c := into(t, f.Name, document, &networkingv1.IngressClass{})
			objects[o] = func(pl *player) { pl.ingresses.SetClass(c) }
		case "Secret":
			s := into(t, f.Name, document, &corev1.Secret{})
			s.Namespace, s.Data = o.Namespace, map[string][]byte{}
			for key, text := range s.StringData { // as the API server does
				s.Data[key] = []byte(text)
			}
			objects[o] = func(pl *player) { pl.ingresses.SetSecret(s) }
		default:
			objects[o] = func(pl *player) { pl.mesh.SetWorkload(o.Kind, &head.ObjectMeta, nil) }
		}
	}
	return objects
}

func into[T any](t *testing.T, name string, document []byte, object *T) *T {
	if err := yaml.UnmarshalStrict(document, object); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return object
}

func typeName(url string) string {
	switch url {
	case resource.ClusterType:
		return "cluster"
	case resource.EndpointType:
		return "endpoints"
	case resource.RouteType:
		return "route"
	case resource.ListenerType:
		return "listener"
	case resource.SecretType:
		return "secret"
	case resource.ExtensionConfigType:
		return "manager"
	}
	return url
}

// outputs writes what there is, a file for each type of resource and one for problems.
func outputs(t *testing.T, p *player) []txtar.File {
	files := resourceFiles(t, p.live, "")
	served := maps.Clone(p.served)
	maps.DeleteFunc(served, func(key envoy.Key, _ envoy.Resource) bool {
		constant := key.Type == resource.ListenerType || key.Type == resource.ExtensionConfigType
		return key.Type == resource.SecretType || constant && !p.shows || !p.serves
	})
	files = append(files, resourceFiles(t, served, "gateway-")...)
	if shown := secrets(t, p.served); len(shown) > 0 {
		files = append(files, textFile("gateway-secrets", shown))
	}
	var lines []string
	for _, o := range slices.SortedFunc(maps.Keys(p.problems), mesh.Object.Compare) {
		for _, problem := range p.problems[o] {
			lines = append(lines, o.String()+": "+problem.String())
		}
	}
	if len(lines) > 0 {
		files = append(files, textFile("problems", lines))
	}
	return files
}

// listenersFile is there in a story that shows the gateway's listeners.
const listenersFile = "gateway-listeners.yaml"

// resourceFiles writes resources, a file for each type.
func resourceFiles(t *testing.T, live map[envoy.Key]envoy.Resource, prefix string) []txtar.File {
	documents := map[string][]string{}
	for _, r := range sortedResources(live) {
		documents[r.Type] = append(documents[r.Type], toYAML(t, r))
	}
	var files []txtar.File
	for _, kind := range []struct{ url, file string }{
		{resource.ClusterType, "clusters.yaml"},
		{resource.EndpointType, "endpoints.yaml"},
		{resource.RouteType, "routes.yaml"},
		{resource.ListenerType, "listeners.yaml"},
		{resource.ExtensionConfigType, "managers.yaml"},
	} {
		if docs := documents[kind.url]; len(docs) > 0 {
			files = append(files, txtar.File{Name: prefix + kind.file, Data: []byte(strings.Join(docs, "---\n"))})
		}
	}
	return files
}

// secrets says of each certificate whether it is the Secret's.
func secrets(t *testing.T, served map[envoy.Key]envoy.Resource) []string {
	var lines []string
	for _, r := range sortedResources(served) {
		if r.Type != resource.SecretType {
			continue
		}
		message := &tlsv3.Secret{}
		if err := r.Body.UnmarshalTo(message); err != nil {
			t.Fatal(err)
		}
		what := "the Secret's certificate"
		if bytes.Equal(message.GetTlsCertificate().GetCertificateChain().GetInlineBytes(), fallback.Chain) {
			what = "the gateway's own"
		}
		lines = append(lines, r.Name+": "+what)
	}
	return lines
}

func sortedResources(live map[envoy.Key]envoy.Resource) []envoy.Resource {
	return slices.SortedFunc(maps.Values(live), func(a, b envoy.Resource) int {
		return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
	})
}

func toYAML(t *testing.T, r envoy.Resource) string {
	message, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	json, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
	if err != nil {
		t.Fatal(err)
	}
	text, err := yaml.JSONToYAML(json)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// checkReferences: what a resource names must be there with it, or a proxy waits for it.
func checkReferences(t *testing.T, live map[envoy.Key]envoy.Resource) {
	for _, r := range live {
		message, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range references(t, message) {
			if _, ok := live[key]; !ok {
				t.Errorf("%s %s names %s %s, which is not there", typeName(r.Type), r.Name, typeName(key.Type), key.Name)
			}
		}
	}
}

func references(t *testing.T, message proto.Message) []envoy.Key {
	switch m := message.(type) {
	case *clusterv3.Cluster:
		if m.GetEdsClusterConfig() != nil {
			return []envoy.Key{{Type: resource.EndpointType, Name: m.GetEdsClusterConfig().GetServiceName()}}
		}
	case *routev3.RouteConfiguration:
		var keys []envoy.Key
		for _, host := range m.GetVirtualHosts() {
			for _, r := range host.GetRoutes() {
				if r.GetRoute() == nil {
					continue
				}
				keys = append(keys, envoy.Key{Type: resource.ClusterType, Name: r.GetRoute().GetCluster()})
			}
		}
		return keys
	case *listenerv3.Listener:
		var keys []envoy.Key
		for _, chain := range m.GetFilterChains() {
			keys = append(keys, chainReferences(t, chain)...)
		}
		return keys
	case *corev3.TypedExtensionConfig:
		return packedReferences(t, m.GetTypedConfig())
	case *tlsv3.DownstreamTlsContext:
		return []envoy.Key{{Type: resource.SecretType, Name: m.GetCommonTlsContext().GetTlsCertificateSdsSecretConfigs()[0].GetName()}}
	case *hcmv3.HttpConnectionManager:
		return []envoy.Key{{Type: resource.RouteType, Name: m.GetRds().GetRouteConfigName()}}
	case *tcpv3.TcpProxy:
		return []envoy.Key{{Type: resource.ClusterType, Name: m.GetCluster()}}
	}
	return nil
}

func chainReferences(t *testing.T, chain *listenerv3.FilterChain) []envoy.Key {
	filter := chain.GetFilters()[0]
	if filter.GetConfigDiscovery() == nil {
		return packedReferences(t, filter.GetTypedConfig())
	}
	manager := envoy.Key{Type: resource.ExtensionConfigType, Name: filter.GetName()}
	return append(packedReferences(t, chain.GetTransportSocket().GetTypedConfig()), manager)
}

func packedReferences(t *testing.T, packed *anypb.Any) []envoy.Key {
	message, err := packed.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	return references(t, message)
}
