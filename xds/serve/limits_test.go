package serve

import (
	"fmt"
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
)

// A pod that names resources without end must not take the control plane's memory from all others.
func TestTooManyNames(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("c", 1)), nil)
	names := make([]string, leastNames+1)
	for i := range names {
		names[i] = fmt.Sprint("n", i)
	}
	for what, req := range map[string]*discoveryv3.DeltaDiscoveryRequest{
		"names":     {TypeUrl: endpoints, ResourceNamesSubscribe: names},
		"long name": {TypeUrl: endpoints, ResourceNamesSubscribe: []string{strings.Repeat("x", longestName+1)}},
	} {
		p := s.connect(t, "a")
		p.send(req)
		if code := p.ended(); code != codes.InvalidArgument {
			t.Errorf("%s: the stream ended with %v, want InvalidArgument", what, code)
		}
	}
}

// A pod has as many streams as it can need, and as many again when they have ended.
func TestStreamsPerPod(t *testing.T) {
	c := census{most: 2, count: map[string]int{}}
	a, b := pod("a"), pod("b")
	first, err := c.enter(a)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.enter(a); err != nil {
		t.Fatal(err)
	}
	if _, err := c.enter(a); err == nil {
		t.Error("a third stream of the pod was admitted")
	}
	if _, err := c.enter(b); err != nil {
		t.Errorf("another pod was refused: %v", err)
	}
	first()
	if _, err := c.enter(a); err != nil {
		t.Errorf("refused after a stream had ended: %v", err)
	}
}
