package serve

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

type deltaClient = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// A proxy is a client that speaks delta ADS message by message.
type proxy struct {
	t      testing.TB
	id     string
	stream deltaClient
	cancel context.CancelFunc
	got    chan *discoveryv3.DeltaDiscoveryResponse
	err    error // why got was closed
	probes int
}

// connect opens a stream for pod name. It ends with the test, or with close.
func (s *testServer) connect(t testing.TB, name string) *proxy {
	t.Helper()
	return s.open(t, s.dial(t, s.tls()), name, "Bearer token-"+name)
}

func (s *testServer) open(t testing.TB, conn *grpc.ClientConn, name, authorization string) *proxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream := openStream(ctx, t, conn, authorization)
	p := &proxy{
		t: t, id: name + ".default", stream: stream, cancel: cancel,
		got: make(chan *discoveryv3.DeltaDiscoveryResponse),
	}
	go func() {
		defer close(p.got)
		for {
			response, err := stream.Recv()
			if err != nil {
				p.err = err
				return
			}
			select {
			case p.got <- response:
			case <-ctx.Done():
				p.err = ctx.Err()
				return
			}
		}
	}()
	t.Cleanup(p.close)
	return p
}

func openStream(ctx context.Context, t testing.TB, conn *grpc.ClientConn, authorization string) deltaClient {
	t.Helper()
	if authorization != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", authorization)
	}
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

// close ends the stream and waits until nothing of it runs.
func (p *proxy) close() {
	p.cancel()
	for range p.got {
	}
}

// send fills in the node, as Envoy does in every request.
func (p *proxy) send(req *discoveryv3.DeltaDiscoveryRequest) {
	p.t.Helper()
	if req.Node == nil {
		req.Node = &corev3.Node{Id: p.id}
	}
	if err := p.stream.Send(req); err != nil {
		p.t.Fatalf("send: %v", err)
	}
}

func (p *proxy) subscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names})
}

func (p *proxy) unsubscribe(typeURL string, names ...string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesUnsubscribe: names})
}

func (p *proxy) ack(r *discoveryv3.DeltaDiscoveryResponse) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()})
}

func (p *proxy) nack(r *discoveryv3.DeltaDiscoveryResponse, message string) {
	p.t.Helper()
	p.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce(),
		ErrorDetail: &statuspb.Status{Code: 13, Message: message},
	})
}

// receive waits for the next response.
func (p *proxy) receive() *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	select {
	case r, ok := <-p.got:
		if !ok {
			p.t.Fatalf("stream of %s ended: %v", p.id, p.err)
		}
		return r
	case <-time.After(long):
		p.t.Fatalf("%s waits for a response", p.id)
	}
	return nil
}

// want receives a response and compares it, as "cluster: a b -c" for a and b set and c removed.
func (p *proxy) want(expected string) *discoveryv3.DeltaDiscoveryResponse {
	p.t.Helper()
	r := p.receive()
	if got := describe(r); got != expected {
		p.t.Fatalf("%s received %q, want %q", p.id, got, expected)
	}
	return r
}

// wantAll acknowledges each of the expected responses.
func (p *proxy) wantAll(expected ...string) {
	p.t.Helper()
	for _, e := range expected {
		p.ack(p.want(e))
	}
}

// quiet checks that the server has nothing to say: the next that it says is the answer to a question asked now.
func (p *proxy) quiet() {
	p.t.Helper()
	for range 2 { // the first is part of the change that the answers before it may have ended
		p.probes++
		name := fmt.Sprint("probe-", p.probes)
		p.subscribe("type.googleapis.com/probe", name)
		p.wantAll("other: -" + name)
	}
}

func describe(r *discoveryv3.DeltaDiscoveryResponse) string {
	words := []string{typeLabel(r.GetTypeUrl()) + ":"}
	for _, resource := range r.GetResources() {
		words = append(words, resource.GetName())
	}
	for _, name := range r.GetRemovedResources() {
		words = append(words, "-"+name)
	}
	return strings.Join(words, " ")
}
