package serve

import (
	"errors"
	"fmt"
	"sync"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// What one pod may cost: any pod can have a token made for us, so these are what keeps one from taking the control plane
// away from all others. They are far above what an Envoy needs.
const (
	// leastNames is how many resources a stream may name however few are published; then it is four times as many.
	leastNames = 100_000
	// longestName is in bytes. Ours are made of Kubernetes names and a port.
	longestName = 1024
	// mostRest is for what a request has beside names and versions, in bytes: the node, with a list of Envoy's extensions,
	// and the reason of a refusal.
	mostRest = 256 << 10
	// largeRequest is in bytes. A larger one waits until at most largeAtOnce are decoded.
	largeRequest, largeAtOnce = 1 << 20, 2
	// rejectionsPerProxy is how many resources per second, after the first rejectionsBurst, a proxy may refuse that anybody is
	// told of; it may say longestMessage about each, in bytes. Any pod can refuse anything as often as it likes.
	rejectionsPerProxy, rejectionsBurst = 0.1, 20
	longestMessage                      = 1024
	// refusalLines is how many refusals are logged per second, after the first refusalLinesBurst; all are counted.
	refusalLines, refusalLinesBurst = 10, 100
	// streamsPerPod is the default of Config.StreamsPerPod: Envoy has one, and another while the loss of the first is
	// not noticed.
	streamsPerPod = 4
)

// checkNames refuses a request that would have the stream name more resources than a proxy can need. The caller holds
// the store's lock.
func (s *stream) checkNames(sub *subscription, req *discoveryv3.DeltaDiscoveryRequest) error {
	named := len(req.GetResourceNamesSubscribe())
	if !sub.begun && sub.allowsWildcard() { // which is when the versions are remembered
		named += len(req.GetInitialResourceVersions())
	}
	for _, other := range s.subs {
		named += other.known.count
	}
	if most := s.store.mostNamesLocked(); named > most {
		return status.Errorf(codes.InvalidArgument, "%d resources are named, at most %d may be", named, most)
	}
	for _, name := range req.GetResourceNamesSubscribe() {
		if len(name) > longestName {
			return status.Errorf(codes.InvalidArgument, "the resource name %.80q... has %d bytes, at most %d are allowed", name, len(name), longestName)
		}
	}
	return nil
}

// mostNames is how many resources a stream may name now.
func (s *store) mostNames() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.mostNamesLocked()
}

func (s *store) mostNamesLocked() int {
	published := 0
	for _, byName := range s.resources {
		published += len(byName)
	}
	return max(leastNames, 4*published)
}

// A census counts the streams of each pod.
type census struct {
	mu    sync.Mutex
	most  int
	count map[string]int // by the pod's UID
}

// enter admits a stream, or refuses one too many of its pod. Leave must be called when an admitted stream ends.
func (c *census) enter(pod Identity) (leave func(), err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[pod.UID] >= c.most {
		return nil, &refusal{"streams", codes.ResourceExhausted, fmt.Errorf("%s has %d streams already", pod.NodeID, c.most)}
	}
	c.count[pod.UID]++
	return func() { c.leave(pod) }, nil
}

func (c *census) leave(pod Identity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.count[pod.UID]--; c.count[pod.UID] == 0 {
		delete(c.count, pod.UID)
	}
}

// errNoToken is told before anything else is done for a stream.
var errNoToken = &refusal{"no_token", codes.Unauthenticated, errors.New("no bearer token in the authorization header")}
