package serve

import (
	"context"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// ended waits for the end of the stream and returns its status. Any message before is an error.
func (p *proxy) ended() codes.Code {
	p.t.Helper()
	select {
	case r, ok := <-p.got:
		if ok {
			p.t.Fatalf("received %q, want nothing", describe(r))
		}
	case <-time.After(long):
		p.t.Fatal("the stream does not end")
	}
	return p.code()
}

func (p *proxy) code() codes.Code { return status.Code(p.err) }

// unreachable is an API server that is down.
type unreachable struct{}

func (unreachable) Authenticate(context.Context, string) (Identity, error) {
	return Identity{}, errors.New("dial tcp 10.96.0.1:443: connection refused")
}

// Whoever cannot prove to be the pod that its node id names gets not one message.
func TestRefusedStreams(t *testing.T) {
	node := func(id string) *corev3.Node { return &corev3.Node{Id: id} }
	tests := map[string]struct {
		authenticator Authenticator
		authorization string
		node          *corev3.Node
		code          codes.Code
		reason        string
	}{
		"no token":            {authorization: "", code: codes.Unauthenticated, reason: "no_token"},
		"empty token":         {authorization: "Bearer ", code: codes.Unauthenticated, reason: "no_token"},
		"not a bearer token":  {authorization: "Basic token-a", code: codes.Unauthenticated, reason: "no_token"},
		"unknown token":       {authorization: "Bearer token-x", code: codes.Unauthenticated, reason: "token"},
		"two tokens in one":   {authorization: "Bearer token-a token-a", code: codes.Unauthenticated, reason: "token"},
		"API server away":     {authenticator: unreachable{}, authorization: "Bearer token-a", code: codes.Unavailable, reason: "token_review"},
		"another pod's id":    {authorization: "Bearer token-a", node: node("b.default"), code: codes.Unauthenticated, reason: "node_id"},
		"another namespace":   {authorization: "Bearer token-a", node: node("a.kube-system"), code: codes.Unauthenticated, reason: "node_id"},
		"an empty id":         {authorization: "Bearer token-a", node: node(""), code: codes.Unauthenticated, reason: "node_id"},
		"the gateway's id":    {authorization: "Bearer token-a", node: node("traffic-ingress"), code: codes.Unauthenticated, reason: "node_id"},
		"scheme in lowercase": {authorization: "bearer token-x", code: codes.Unauthenticated, reason: "token"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := startServer(t, func(c *Config) {
				if test.authenticator != nil {
					c.Authenticator = test.authenticator
				}
			})
			s.Publish(set(staticCluster("c", 1), secret("s", 1)), nil)
			p := s.open(t, s.dial(t, s.tls()), "a", test.authorization)
			// The stream may be refused before or after this is sent.
			_ = p.stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: test.node, TypeUrl: clusters})
			if code := p.ended(); code != test.code {
				t.Errorf("status %v, want %v", p.err, test.code)
			}
			s.wantRefused(t, test.reason)
			if strings.Contains(p.err.Error(), "10.96.0.1") {
				t.Errorf("a stranger is told about the cluster: %v", p.err)
			}
		})
	}
}

// wantRefused checks that exactly this was counted and logged.
func (s *testServer) wantRefused(t *testing.T, reason string) {
	t.Helper()
	eventually(t, "it is counted and logged", func() bool { // the client may know before
		return testutil.ToFloat64(s.metrics.refusals.WithLabelValues(reason)) == 1 && strings.Contains(s.log.String(), "reason="+reason)
	})
	for _, other := range refusalReasons {
		if n := testutil.ToFloat64(s.metrics.refusals.WithLabelValues(other)); n != 0 && other != reason {
			t.Errorf("%s is counted too", other)
		}
	}
	if got := s.log.String(); strings.Count(got, "reason="+reason) != 1 {
		t.Errorf("log: %q, want one line with reason=%s", got, reason)
	}
}

func TestARequestWithoutNodeIsRefusedOnlyIfItIsTheFirst(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	if err := p.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: routes, ResourceNamesSubscribe: []string{"q"}}); err != nil {
		t.Fatal(err)
	}
	p.wantAll("route: -q")

	silent := s.connect(t, "a")
	if err := silent.stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: routes}); err != nil {
		t.Fatal(err)
	}
	if code := silent.ended(); code != codes.Unauthenticated {
		t.Errorf("status %v, want %v", silent.err, codes.Unauthenticated)
	}
}

// A proxy that changes its name on the way is another's.
func TestANodeIDMayNotChange(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	p.id = "b.default"
	p.subscribe(routes, "r")
	if code := p.ended(); code != codes.Unauthenticated {
		t.Errorf("status %v, want %v", p.err, codes.Unauthenticated)
	}
	s.wantRefused(t, "node_id")
}

// Everything else that a client could call, without and with a good token.
func TestOnlyDeltaADSIsServed(t *testing.T) {
	s := startServer(t)
	s.Publish(set(staticCluster("c", 1), secret("s", 1)), nil)
	var served []string
	for name := range s.grpc.GetServiceInfo() {
		served = append(served, name)
	}
	if len(served) != 1 || served[0] != "envoy.service.discovery.v3.AggregatedDiscoveryService" {
		t.Errorf("services: %v, want ADS alone", served)
	}
	conn := s.dial(t, s.tls())
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer token-a")
	request := &discoveryv3.DiscoveryRequest{Node: &corev3.Node{Id: "a.default"}, TypeUrl: secrets, ResourceNames: []string{"s"}}
	for _, method := range []string{
		"/envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets",
		"/envoy.service.secret.v3.SecretDiscoveryService/StreamSecrets",
		"/envoy.service.secret.v3.SecretDiscoveryService/DeltaSecrets",
		"/envoy.service.cluster.v3.ClusterDiscoveryService/FetchClusters",
		"/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
		"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
		"/grpc.health.v1.Health/Check",
		"/envoy.service.discovery.v3.AggregatedDiscoveryService/FetchAggregatedResources",
	} {
		err := conn.Invoke(ctx, method, request, &discoveryv3.DiscoveryResponse{})
		if status.Code(err) != codes.Unimplemented {
			t.Errorf("%s: %v, want %v", method, err, codes.Unimplemented)
		}
	}
	if got := s.log.String(); got != "" {
		t.Errorf("log: %s", got)
	}

	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(request)
	if response, err := stream.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("state of the world: %v, %v, want %v", response, err, codes.Unimplemented)
	}
	s.wantRefused(t, "state_of_the_world")
}

// A client that sends no path, or half of one, meets no handler.
func TestOddMethodNames(t *testing.T) {
	s := startServer(t)
	conn := s.dial(t, s.tls())
	for _, method := range []string{"/", "//", "envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"} {
		if err := conn.Invoke(t.Context(), method, &discoveryv3.DeltaDiscoveryRequest{}, &discoveryv3.DeltaDiscoveryResponse{}); err == nil {
			t.Errorf("%q was answered", method)
		}
	}
}

// A connection, a disconnection, a refusal and a rejection are one line each, and none has a token in it.
func TestLogLines(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.nack(p.want("route: r"), "no such cluster")
	p.quiet()
	if err := p.stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if code := p.ended(); code != codes.Unknown || !errors.Is(p.err, io.EOF) {
		t.Errorf("a stream that the proxy closed ends with %v", p.err)
	}
	s.open(t, s.dial(t, s.tls()), "a", "Bearer token-of-nobody").ended()
	want := []string{
		`level=INFO msg="proxy connected" proxy=a.default address=bufconn`,
		`level=WARN msg="proxy rejected a resource" proxy=a.default type=route resource=r version=\w+ owner="Service default/r" message="no such cluster"`,
		`level=INFO msg="proxy disconnected" proxy=a.default address=bufconn after=\S+ cause="closed by the proxy"`,
		`level=WARN msg="stream refused" reason=token address=bufconn error="token refused: unknown"`,
	}
	log := s.log.String()
	lines := strings.Split(strings.TrimSpace(log), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(lines), len(want), log)
	}
	for i, line := range lines {
		if !regexp.MustCompile(want[i] + "$").MatchString(line) {
			t.Errorf("line %d is %s\nwant %s", i, line, want[i])
		}
	}
	if strings.Contains(log, "token-") {
		t.Errorf("a token is in the log:\n%s", log)
	}
}

// New streams beyond the limit wait; nobody else notices.
func TestNewStreamsAreLimited(t *testing.T) {
	s := startServer(t, func(c *Config) { c.NewStreams = 1.0 / 3600 })
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	late := s.connect(t, "b")
	if code := late.ended(); code != codes.Unavailable { // the wait would be an hour
		t.Errorf("status %v, want %v", late.err, codes.Unavailable)
	}
	s.Publish(set(route("r", 2)), nil)
	p.wantAll("route: r")
}

// One connection cannot open streams without end.
func TestStreamsPerConnectionAreLimited(t *testing.T) {
	s := startServer(t)
	s.Publish(Update{}, nil)
	conn := s.dial(t, s.tls())
	for range maxStreams {
		s.open(t, conn, "a", "Bearer token-a").quiet()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("stream %d: %v, want it to wait", maxStreams+1, err)
	}
}

func TestATypeURLIsRequiredAndTypesAreLimited(t *testing.T) {
	s := startServer(t)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe("", "r")
	if code := p.ended(); code != codes.InvalidArgument {
		t.Errorf("status %v, want %v", p.err, codes.InvalidArgument)
	}
	p = s.connect(t, "a")
	for i := range maxTypes + 1 {
		p.subscribe(strings.Repeat("x", i+1), "r")
	}
	for range p.got { // the answers to those that it may
	}
	if code := p.code(); code != codes.InvalidArgument {
		t.Errorf("status %v, want %v", p.err, codes.InvalidArgument)
	}
}
