package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// proxies is how many clients there are, unless a benchmark says otherwise.
const proxies = 100

// A fleet is clients that speak delta ADS as Envoy does: they subscribe to all clusters, to the endpoints that these name,
// then to all listeners and to the routes that these name, and acknowledge each response at once.
type fleet struct {
	address string
	roots   *x509.CertPool
	// size is how many clients there are.
	size int
	// resumes says that a client whose stream broke tells what it has, as Envoy does. Else a stream may not break.
	resumes bool
	// ours is part of the names of the namespace's clusters, endpoints and routes.
	ours string
	// goal is what all clients are to reach.
	goal atomic.Pointer[goal]
	// seen is called for each resource that a client has acknowledged, on the client's goroutine; nil for nobody.
	seen func(client int, typeURL string, r resource)

	mu sync.Mutex
	// references are what clusters and listeners name, by version: all clients get the same bytes.
	references map[string][]key
	failed     error
}

type key struct{ typeURL, name string }

func newFleet(c *controlPlane, namespace string) *fleet {
	roots := x509.NewCertPool()
	roots.AddCert(c.ca)
	return &fleet{address: c.address, roots: roots, size: proxies, ours: "|" + namespace + "|", references: map[string][]key{}}
}

// A goal is reached by the fleet when each client has acknowledged what it demands.
type goal struct {
	met  func(*client) bool
	open atomic.Int32
	// last has the time of the last client.
	last chan time.Time
}

// aim sets what the clients that run are to reach next.
func (f *fleet) aim(met func(*client) bool) *goal {
	g := &goal{met: met, last: make(chan time.Time, 1)}
	g.open.Store(int32(f.size))
	f.goal.Store(g)
	return g
}

// wait returns when the last client reached the goal.
func (f *fleet) wait(b *testing.B, g *goal) time.Time {
	b.Helper()
	select {
	case at := <-g.last:
		return at
	case <-time.After(time.Minute + time.Duration(f.size)*20*time.Millisecond):
		b.Fatalf("%d of %d clients have not got there: %v", g.open.Load(), f.size, f.failure())
	}
	return time.Time{}
}

// run keeps a client for each token connected until stop is called.
func (f *fleet) run(b *testing.B, nodes, tokens []string) (stop func()) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	var group errgroup.Group
	for i := range f.size {
		group.Go(func() error {
			c := &client{fleet: f, number: i, node: nodes[i], token: tokens[i]}
			return c.run(ctx)
		})
	}
	stop = sync.OnceFunc(func() {
		cancel()
		_ = group.Wait()
	})
	b.Cleanup(stop)
	return stop
}

func (f *fleet) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.failed = errors.Join(f.failed, err)
}

func (f *fleet) failure() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.failed
}

// A client is one connection of the fleet. Its goroutine owns it.
type client struct {
	fleet       *fleet
	number      int
	node, token string

	stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient
	// have is the version of each resource, known what was subscribed to by name.
	have  map[key]string
	known map[key]bool
	// fresh is what came since the last goal was reached.
	fresh map[key]bool
	// named counts the namespace's endpoints and routes, without which the listeners are not complete.
	named map[string]int
	// again counts the namespace's endpoints that came on this stream.
	again     int
	listening bool
	reached   *goal
}

// run connects until ctx ends. A stream that breaks otherwise is remembered as the fleet's failure.
func (c *client) run(ctx context.Context) error {
	creds := credentials.NewTLS(&tls.Config{RootCAs: c.fleet.roots, ServerName: "localhost", MinVersion: tls.VersionTLS13})
	for ctx.Err() == nil {
		if c.have == nil || !c.fleet.resumes {
			c.have, c.known, c.named, c.listening = map[key]string{}, map[key]bool{}, map[string]int{}, false
		}
		c.fresh, c.again = map[key]bool{}, 0
		conn, err := grpc.NewClient("passthrough:///"+c.fleet.address, grpc.WithTransportCredentials(creds), grpc.WithContextDialer(c.dial),
			grpc.WithDefaultCallOptions(grpc.ForceCodecV2(newCodec())),
			// Envoy's.
			grpc.WithInitialWindowSize(16<<20), grpc.WithInitialConnWindowSize(24<<20))
		if err != nil {
			return err
		}
		err = c.connected(ctx, conn)
		conn.Close()
		if ctx.Err() == nil {
			if len(c.have) > 0 && !c.fleet.resumes {
				c.fleet.fail(fmt.Errorf("the stream of %s broke: %w", c.node, err))
			}
			time.Sleep(c.fleet.pause())
		}
	}
	return nil
}

// connected runs one stream until it breaks.
func (c *client) connected(ctx context.Context, conn *grpc.ClientConn) (err error) {
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+c.token)
	c.stream, err = discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return err
	}
	for _, request := range c.first() {
		if err := c.stream.Send(request); err != nil {
			return err
		}
	}
	for {
		var r response
		if err := c.stream.RecvMsg(&r); err != nil {
			return err
		}
		if err := c.take(&r); err != nil {
			return err
		}
		if g := c.fleet.goal.Load(); g != nil && g != c.reached && g.met(c) {
			c.reached = g
			clear(c.fresh)
			if g.open.Add(-1) == 0 {
				g.last <- time.Now()
			}
		}
	}
}

// take subscribes to what the response names, and acknowledges it.
func (c *client) take(r *response) error {
	subscribe := map[string][]string{}
	for _, res := range r.resources {
		c.count(key{r.typeURL, res.name}, 1)
		c.have[key{r.typeURL, res.name}] = res.version
		if r.typeURL == resourcev3.EndpointType && !c.fresh[key{r.typeURL, res.name}] && strings.Contains(res.name, c.fleet.ours) {
			c.again++
		}
		c.fresh[key{r.typeURL, res.name}] = true
		for _, ref := range c.fleet.refersTo(r.typeURL, res) {
			if !c.known[ref] {
				c.known[ref] = true
				subscribe[ref.typeURL] = append(subscribe[ref.typeURL], ref.name)
			}
		}
	}
	requests := []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: r.typeURL, ResponseNonce: r.nonce}}
	for typeURL, names := range subscribe {
		requests = append(requests, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
	}
	if names := c.drop(r); len(names) > 0 {
		requests = append(requests, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resourcev3.EndpointType, ResourceNamesUnsubscribe: names})
	}
	// Envoy asks for listeners when its first clusters have their endpoints.
	if r.typeURL == resourcev3.EndpointType && !c.listening {
		c.listening = true
		requests = append(requests, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: resourcev3.ListenerType})
	}
	for _, request := range requests {
		if err := c.stream.Send(request); err != nil {
			return err
		}
	}
	if c.fleet.seen != nil {
		for _, res := range r.resources {
			c.fleet.seen(c.number, r.typeURL, res)
		}
	}
	return nil
}

// drop forgets what the response takes away, and returns the endpoints that go with their clusters. A listener drains, and
// keeps its routes meanwhile.
func (c *client) drop(r *response) (unsubscribe []string) {
	for _, name := range r.removed {
		c.count(key{r.typeURL, name}, -1)
		delete(c.have, key{r.typeURL, name})
		of := key{resourcev3.EndpointType, name}
		if r.typeURL == resourcev3.ClusterType && c.known[of] {
			c.count(of, -1)
			delete(c.have, of)
			delete(c.known, of)
			unsubscribe = append(unsubscribe, name)
		}
	}
	return unsubscribe
}

// count notes that one of the namespace's resources comes or goes, unless it is there, or gone, already.
func (c *client) count(k key, change int) {
	if _, known := c.have[k]; known == (change < 0) && strings.Contains(k.name, c.fleet.ours) {
		c.named[k.typeURL] += change
	}
}

// refersTo returns the endpoints of a cluster, or the routes of a listener.
func (f *fleet) refersTo(typeURL string, r resource) []key {
	var message proto.Message
	switch typeURL {
	case resourcev3.ClusterType:
		message = &clusterv3.Cluster{}
	case resourcev3.ListenerType:
		message = &listenerv3.Listener{}
	default:
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	id := typeURL + " " + r.name + " " + r.version
	if refs, known := f.references[id]; known {
		return refs
	}
	if err := proto.Unmarshal(r.body, message); err != nil {
		f.failed = fmt.Errorf("resource %s: %w", r.name, err)
		return nil
	}
	var refs []key
	for of, names := range cachev3.GetResourceReferences(map[string]types.ResourceWithTTL{r.name: {Resource: message}}) {
		for name := range names {
			refs = append(refs, key{of, name})
		}
	}
	f.references[id] = refs
	return refs
}

// synced is met by a client that has all open Services of the namespace.
func synced(c *client) bool {
	return c.named[resourcev3.EndpointType] == opened && c.named[resourcev3.RouteType] == opened
}
