package serve

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
)

// A proxy that reconnects may say what it has of very many resources.
func TestALargeRequest(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("c", 1)), nil)
	p := s.connect(t, "a")
	versions := map[string]string{}
	long := strings.Repeat("x", 200)
	for i := range 139_000 {
		versions[fmt.Sprint(long, i)] = "0123456789abcdef"
	}
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpoints, InitialResourceVersions: versions, ResourceNamesSubscribe: []string{"r"}}
	if size := proto.Size(req); size < maxRequest*9/10 || size > maxRequest {
		t.Fatalf("the request has %d bytes, want nearly %d", size, maxRequest)
	}
	p.send(req)
	p.wantAll("endpoint: -r")
}

// A first sync is a handful of messages, each of a size that any client accepts.
func TestAFirstSyncIsBatchedAndSplitBySize(t *testing.T) {
	s := startServer(t)
	const n = 1000
	var u Update
	var names []string
	for i := range n {
		name := fmt.Sprintf("%d|default|service-%04d.outbound", 8000+i, i)
		names = append(names, name)
		u.Set = append(u.Set, cluster(name, 1), endpoint(name, 1), listener(name, name, 1), route(name, 1))
	}
	big := listener("big", "", 1)
	big.Body.Value = append(big.Body.GetValue(), make([]byte, maxResponse)...) // larger than a response may be
	u.Set = append(u.Set, big)
	s.Publish(u, nil)
	p := s.connect(t, "a")
	messages := 0
	sync := func(want int) {
		t.Helper()
		for got := 0; got < want; messages++ {
			r := p.receive()
			size := 0
			for _, resource := range r.GetResources() {
				size += len(resource.GetResource().GetValue())
			}
			if size > maxResponse && len(r.GetResources()) > 1 {
				t.Errorf("a response of %d resources has %d bytes", len(r.GetResources()), size)
			}
			got += len(r.GetResources())
			p.ack(r)
		}
	}
	p.subscribe(clusters)
	sync(n)
	p.subscribe(endpoints, names...)
	sync(n)
	p.subscribe(listeners)
	sync(n + 1)
	p.subscribe(routes, names...)
	sync(n)
	if messages > 8 {
		t.Errorf("%d messages for %d services", messages, n)
	}
	p.quiet()
}

// What the proxy decodes is what was published.
func TestResponsesDecodeToWhatWasPublished(t *testing.T) {
	s := startServer(t)
	want := []string{}
	u := set(cluster("c", 1), staticCluster("static|é", 3))
	for _, r := range u.Set {
		want = append(want, fmt.Sprint(r.Name, r.Version, r.Body))
	}
	s.Publish(u, nil)
	p := s.connect(t, "a")
	p.subscribe(clusters)
	response := p.receive()
	got := []string{}
	for _, r := range response.GetResources() {
		got = append(got, fmt.Sprint(r.GetName(), r.GetVersion(), r.GetResource()))
	}
	if slices.Sort(want); !slices.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if response.GetNonce() == "" || response.GetSystemVersionInfo() == "" {
		t.Errorf("nonce %q, version %q", response.GetNonce(), response.GetSystemVersionInfo())
	}
}
