package xds

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	bandwidthsharev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/bandwidth_share/v3"
	bodysizev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/body_size_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/build"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// olderEnvoy is a program of which some extensions of today are unknown.
func olderEnvoy(t *testing.T) string {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	b := &build.Builder{Root: root, Bin: filepath.Join(root, ".local", "bin"), Timed: func(ctx context.Context, what string, run func(context.Context) error) error {
		t.Log(what)
		return run(ctx)
	}}
	path, err := b.OlderEnvoy(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// another is a pod with a world of its own, at the same addresses and with a server at the same port, from which the
// control plane is reached too.
func (w *world) another(t *testing.T, c *control, port uint16) *world {
	t.Helper()
	other := newWorld(t)
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, "a")
	})}
	l := listen(t, other.outside, fmt.Sprint(outsideAddress, ":", port))
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	front := listen(t, other.pod, fmt.Sprint("127.0.0.1:", c.port))
	cable := &cable{world: w}
	cable.connect(fmt.Sprint("127.0.0.1:", c.port))
	go cable.run(front)
	t.Cleanup(cable.cut)
	return other
}

func packed(t *testing.T, message proto.Message) *anypb.Any {
	t.Helper()
	config, err := anypb.New(message)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// TestWhatAnOlderEnvoyRefuses: one resource of a change is good for today's Envoy and unknown to an older one. The older
// keeps it as it was and goes on, alone: all others of the change reach it, the newer has everything, and the owner is
// named once, until it is mended.
func TestWhatAnOlderEnvoyRefuses(t *testing.T) {
	program := olderEnvoy(t)
	tests := map[string]struct {
		typeURL string
		spoil   func(*testing.T, envoy.Resource) envoy.Resource
	}{
		"a route": {resourcev3.RouteType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &routev3.RouteConfiguration{}, func(c *routev3.RouteConfiguration) {
				c.GetVirtualHosts()[0].GetRoutes()[0].TypedPerFilterConfig = map[string]*anypb.Any{
					"envoy.filters.http.bandwidth_share": packed(t, &bandwidthsharev3.BandwidthShare{}),
				}
			})
		}},
		"a listener": {resourcev3.ListenerType, func(t *testing.T, r envoy.Resource) envoy.Resource {
			return changed(t, r, &listenerv3.Listener{}, func(l *listenerv3.Listener) {
				// More than filters must differ: when filters alone change, Envoy's dump goes on to name the version before.
				l.PerConnectionBufferLimitBytes = wrapperspb.UInt32(1 << 18)
				filter := l.GetFilterChains()[0].GetFilters()[0]
				manager := &hcmv3.HttpConnectionManager{}
				if err := filter.GetTypedConfig().UnmarshalTo(manager); err != nil {
					t.Fatal(err)
				}
				limit := &hcmv3.HttpFilter{
					Name:       "envoy.filters.http.body_size_limit",
					ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: packed(t, &bodysizev3.BodySizeLimit{})},
				}
				manager.HttpFilters = append([]*hcmv3.HttpFilter{limit}, manager.GetHttpFilters()...)
				filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: packed(t, manager)}
			})
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) { refusedByTheOlder(t, program, test.typeURL, test.spoil) })
	}
}

func refusedByTheOlder(t *testing.T, program, typeURL string, spoil func(*testing.T, envoy.Resource) envoy.Resource) {
	w := newWorld(t)
	c := startControl(t, w)
	port := w.backend(t, "a")
	var services []*service
	for i := range 9 {
		services = append(services, newService(fmt.Sprint("service-", i), label.HTTP, port))
	}
	bad := services[4]
	c.publish(t, open(t, services...))
	newer, older := startSidecar(t, w, c), startEnvoy(t, w.another(t, c, port), c, program, "client-1")
	newer.has(t, open(t, services...).Set)
	older.has(t, open(t, services...).Set)
	serves := func(what string) {
		t.Helper()
		for _, s := range []*sidecar{newer, older} {
			for _, service := range services {
				if status, body, err := s.get(service.address()); body != "a" {
					t.Errorf("%s: %s: %d %q, %v", what, service.Owner.Name, status, body, err)
				}
			}
		}
	}

	all, kept, mended := spoilOne(t, services, bad, typeURL, spoil)
	if a := c.publish(t, serve.Update{Set: all}); a.Acknowledged != 1 || a.Rejected != 1 {
		t.Errorf("applied: %+v, want one proxy to take it and one to refuse", a)
	}
	newer.has(t, all)
	older.has(t, kept)
	serves("refused")
	got := c.rejected()
	if len(got) != 1 || got[0].Owner != bad.Owner || got[0].Key.Type != typeURL || got[0].Proxy.Pod != "client-1" || got[0].Message == "" {
		t.Errorf("rejections: %+v, want one of %s by client-1", got, bad.Owner)
	}

	if a := c.publish(t, serve.Update{Set: mended}); a.Acknowledged != 2 {
		t.Errorf("mended: %+v, want both to take it", a)
	}
	newer.has(t, mended)
	older.has(t, mended)
	serves("mended")
	if n := len(c.rejected()); n != 1 {
		t.Errorf("%d rejections, want 1", n)
	}
}

// spoilOne changes every resource of services, one of them so that it is spoiled. It returns that, what remains where that
// one is refused, and the change as it should have been.
func spoilOne(t *testing.T, services []*service, bad *service, typeURL string, spoil func(*testing.T, envoy.Resource) envoy.Resource) (all, kept, mended []envoy.Resource) {
	t.Helper()
	for _, service := range services {
		before := service.resources(t)
		for i, r := range different(t, service) {
			mended = append(mended, r)
			if service == bad && r.Type == typeURL {
				all, kept = append(all, spoil(t, r)), append(kept, before[i])
				continue
			}
			all, kept = append(all, r), append(kept, r)
		}
	}
	return all, kept, mended
}
