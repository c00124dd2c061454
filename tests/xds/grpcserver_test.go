package xds

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

const trailerKey, binaryKey = "x-trailer", "x-trailer-bin"

// A grpcServer answers with its name; a unary call that wants a response of some size waits for its end.
type grpcServer struct {
	grpc_testing.UnimplementedTestServiceServer
	*grpc.Server
	name string
	// waiting has the time left of each call that waits, and its error when it ends.
	waiting chan time.Duration
	ended   chan error
}

// grpcAt starts a server at port 8080 of an address outside of the pod.
func (w *world) grpcAt(t *testing.T, address, name string) *grpcServer {
	t.Helper()
	injected.Inside(t, w.outside, func() error { return injected.Up("eth0", address) })
	l := listen(t, w.outside, address+":8080")
	s := &grpcServer{Server: grpc.NewServer(), name: name, waiting: make(chan time.Duration, 10), ended: make(chan error, 10)}
	grpc_testing.RegisterTestServiceServer(s, s)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	return s
}

func (s *grpcServer) UnaryCall(ctx context.Context, r *grpc_testing.SimpleRequest) (*grpc_testing.SimpleResponse, error) {
	if err := grpc.SetTrailer(ctx, grpcmetadata.Pairs(trailerKey, s.name, binaryKey, "\x00\xff")); err != nil {
		return nil, err
	}
	if r.GetResponseSize() > 0 {
		var left time.Duration
		if deadline, ok := ctx.Deadline(); ok {
			left = time.Until(deadline)
		}
		s.waiting <- left
		<-ctx.Done()
		s.ended <- ctx.Err()
		return nil, ctx.Err()
	}
	if want := r.GetResponseStatus(); want != nil {
		return nil, status.Error(codes.Code(want.GetCode()), want.GetMessage())
	}
	return &grpc_testing.SimpleResponse{ServerId: s.name}, nil
}

// StreamingOutputCall sends its name after each of the intervals that it is asked for.
func (s *grpcServer) StreamingOutputCall(r *grpc_testing.StreamingOutputCallRequest, stream grpc.ServerStreamingServer[grpc_testing.StreamingOutputCallResponse]) error {
	for _, part := range r.GetResponseParameters() {
		select {
		case <-time.After(time.Duration(part.GetIntervalUs()) * time.Microsecond):
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		if err := stream.Send(s.response()); err != nil {
			return err
		}
	}
	return nil
}

// StreamingInputCall counts the bytes that it gets.
func (s *grpcServer) StreamingInputCall(stream grpc.ClientStreamingServer[grpc_testing.StreamingInputCallRequest, grpc_testing.StreamingInputCallResponse]) error {
	var size int32
	for {
		r, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return stream.SendAndClose(&grpc_testing.StreamingInputCallResponse{AggregatedPayloadSize: size})
		}
		if err != nil {
			return err
		}
		size += int32(len(r.GetPayload().GetBody()))
	}
}

// FullDuplexCall answers every message.
func (s *grpcServer) FullDuplexCall(stream grpc.BidiStreamingServer[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]) error {
	stream.SetTrailer(grpcmetadata.Pairs(trailerKey, s.name))
	for {
		_, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.Send(s.response()); err != nil {
			return err
		}
	}
}

func (s *grpcServer) response() *grpc_testing.StreamingOutputCallResponse {
	return &grpc_testing.StreamingOutputCallResponse{Payload: &grpc_testing.Payload{Body: []byte(s.name)}}
}

// A grpcClient is one connection of an application in the pod.
type grpcClient struct {
	grpc_testing.TestServiceClient
	conn  *grpc.ClientConn
	dials atomic.Int64
}

// grpcClient connects to an address by a name, as a client does to which DNS gave the address for the name.
func (w *world) grpcClient(t *testing.T, address, host string) *grpcClient {
	t.Helper()
	c := &grpcClient{}
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithAuthority(host),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
			c.dials.Add(1)
			return w.dial(ctx, address)
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	c.TestServiceClient, c.conn = grpc_testing.NewTestServiceClient(conn), conn
	return c
}

// call returns the name of the server that answered, or the code of the error.
func (c *grpcClient) call(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	answer, err := c.UnaryCall(ctx, &grpc_testing.SimpleRequest{})
	if err != nil {
		return status.Code(err).String()
	}
	return answer.GetServerId()
}

// calls counts the answers to so many calls, one after the other.
func (c *grpcClient) calls(t *testing.T, n int) map[string]int {
	t.Helper()
	answers := map[string]int{}
	for range n {
		answers[c.call(t)]++
	}
	return answers
}
