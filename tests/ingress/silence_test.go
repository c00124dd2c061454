package ingress

import (
	"fmt"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// A silentControl says which clusters, endpoints and listeners there are, and nothing else until it speaks: as a control plane
// that is lost at a bad time.
type silentControl struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	resources []envoy.Resource
	speaks    chan struct{}
	// asked is called when Envoy asks for routes.
	asked func()
}

func (c *silentControl) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	var sending sync.Mutex
	send := func(response *discoveryv3.DeltaDiscoveryResponse) {
		sending.Lock()
		defer sending.Unlock()
		_ = stream.Send(response)
	}
	for {
		request, err := stream.Recv()
		if err != nil {
			return nil
		}
		response := c.response(request)
		switch {
		case len(response.GetResources()) == 0: // an ACK
		case slices.Contains([]string{resourcev3.ClusterType, resourcev3.EndpointType, resourcev3.ListenerType}, request.GetTypeUrl()):
			send(response)
		default:
			if request.GetTypeUrl() == resourcev3.RouteType {
				c.asked()
			}
			go func() {
				<-c.speaks
				send(response)
			}()
		}
	}
}

// response has what is asked for by name, or by a first request without one.
func (c *silentControl) response(request *discoveryv3.DeltaDiscoveryRequest) *discoveryv3.DeltaDiscoveryResponse {
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: request.GetTypeUrl(), Nonce: "1"}
	names := map[string]bool{}
	for _, name := range request.GetResourceNamesSubscribe() {
		names[name] = true
	}
	all := names["*"] || len(names) == 0 && request.GetResponseNonce() == ""
	for _, r := range c.resources {
		if r.Type == request.GetTypeUrl() && (all || names[r.Name]) {
			response.Resources = append(response.Resources, &discoveryv3.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
		}
	}
	return response
}

// impatient has every config source give up after a while, as Envoy does by default after 15 seconds.
func impatient(t *testing.T, r envoy.Resource, after time.Duration) envoy.Resource {
	t.Helper()
	message, err := r.Body.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	sources := 0
	walk(message.ProtoReflect(), func(m protoreflect.Message) {
		field := m.Descriptor().Fields().ByName("initial_fetch_timeout")
		if field == nil {
			return
		}
		sources++
		if m.Has(field) {
			m.Set(field, protoreflect.ValueOfMessage(durationpb.New(after).ProtoReflect()))
		}
	})
	if r.Type == resourcev3.ListenerType && sources == 0 {
		t.Fatalf("%s has no config source", r.Name)
	}
	changed, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	r.Body, r.Version = changed, fmt.Sprint(after)
	return r
}

// walk calls for each message within a message, those of extensions too, which are written anew.
func walk(m protoreflect.Message, visit func(protoreflect.Message)) {
	if packed, ok := m.Interface().(*anypb.Any); ok {
		inner, err := packed.UnmarshalNew()
		if err != nil {
			return
		}
		walk(inner.ProtoReflect(), visit)
		if text, err := proto.Marshal(inner); err == nil {
			packed.Value = text
		}
		return
	}
	visit(m)
	m.Range(func(field protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case field.IsMap() || field.Message() == nil:
		case field.IsList():
			for i := range v.List().Len() {
				walk(v.List().Get(i).Message(), visit)
			}
		default:
			walk(v.Message(), visit)
		}
		return true
	})
}

// TestSilentControlPlane: a gateway that gets its listeners, and then nothing more, waits: it takes no connection that it could
// only answer by 404 or a failed handshake, and is not ready. With config sources that give up it does just that.
func TestSilentControlPlane(t *testing.T) {
	t.Parallel()
	for name, gives := range map[string]time.Duration{"waits": 0, "gives up": 200 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			g.service("web")
			chain, key := injected.Pair(t, time.Hour, "a.example")
			g.model.SetSecret(secretOf("a", chain, key))
			g.set([]byte(secured(rules("web", 1, "web|P|/|web", "a.example|P|/|web"), "a|a.example")))
			c := &silentControl{speaks: make(chan struct{})}
			for _, r := range g.flush().Set {
				if gives > 0 {
					r = impatient(t, r, gives)
				}
				c.resources = append(c.resources, r)
			}
			asked := make(chan struct{})
			c.asked = sync.OnceFunc(func() { close(asked) })
			g.serveSilently(c)
			select {
			case <-asked:
			case <-time.After(patience):
				t.Fatal("Envoy asks for no route")
			}
			if gives > 0 {
				g.complaint = "initial fetch timed out"
				g.eventually("it serves without routes, and without a certificate", func() error { return g.served("404", "") })
				if got := g.status("/ready"); got != http.StatusOK {
					t.Errorf("it says of itself %d", got)
				}
				return
			}
			time.Sleep(600 * time.Millisecond) // three times as long as the other needs: nothing may happen, and there is no event of nothing
			if err := g.served("", ""); err != nil {
				t.Errorf("before there are routes: %v", err)
			}
			if got := g.status("/ready"); got == http.StatusOK {
				t.Errorf("before there are routes it says that it is ready")
			}
			close(c.speaks)
			g.eventually("it serves", func() error { return g.served("web", "web") })
			if got := g.status("/ready"); got != http.StatusOK {
				t.Errorf("then it says of itself %d", got)
			}
		})
	}
}

// serveSilently starts Envoy with that control plane.
func (g *gateway) serveSilently(c *silentControl) {
	g.t.Helper()
	dir := g.t.TempDir()
	injected.Certificate(g.t, dir)
	proof, err := credentials.NewServerTLSFromFile(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		g.t.Fatal(err)
	}
	server := grpc.NewServer(grpc.Creds(proof))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, c)
	l := g.listen(g.inside, "127.0.0.1:0")
	go func() { _ = server.Serve(l) }()
	g.t.Cleanup(server.Stop) // after Envoy, which would complain
	g.startEnvoy(l.Addr().String(), filepath.Join(dir, "tls.crt"))
}

// served compares what a plain and a secure request get; one that is not answered gets nothing.
func (g *gateway) served(plain, secure string) error {
	got := map[string]string{}
	for url := range map[string]string{"http://web/": plain, "https://a.example/": secure} {
		client := g.client(nil)
		if a, err := ask(client, url); err == nil {
			got[url] = a.outcome()
		}
		client.CloseIdleConnections()
	}
	want := map[string]string{"http://web/": plain, "https://a.example/": secure}
	maps.DeleteFunc(want, func(_, v string) bool { return v == "" })
	if !maps.Equal(got, want) {
		return fmt.Errorf("answers %v, want %v", got, want)
	}
	return nil
}

// status is what Envoy's port for the kubelet and Prometheus answers, or 0.
func (g *gateway) status(path string) int {
	client := g.client(nil)
	defer client.CloseIdleConnections()
	response, err := client.Get("http://" + gatewayAddress + ":" + statsPort + path)
	if err != nil {
		return 0
	}
	defer response.Body.Close()
	return response.StatusCode
}
