package xds

import (
	"context"
	"fmt"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/interop/grpc_testing"
	grpcmetadata "google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestGRPCStatus: every status arrives with its message and trailers, and so does what a label says of a call: gRPC has no
// status that Envoy would give for its own 504, so that a timeout is UNAVAILABLE.
func TestGRPCStatus(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	server, _ := pair(t, w, c, nil)
	c.setPod("web-1", second, map[string]string{weight: "0"})
	c.publish(t)
	startSidecar(t, w, control)
	client := w.grpcClient(t, shopIP+":80", "web")
	for code := codes.Canceled; code <= codes.Unauthenticated; code++ {
		const message = "schlüssel 100% \t\n"
		var trailer grpcmetadata.MD
		_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{
			ResponseStatus: &grpc_testing.EchoStatus{Code: int32(code), Message: message},
		}, grpc.Trailer(&trailer))
		if s := status.Convert(err); s.Code() != code || s.Message() != message {
			t.Errorf("%v: %v", code, err)
		}
		if fmt.Sprint(trailer.Get(trailerKey), trailer.Get(binaryKey)) != "[web-0] [\x00\xff]" {
			t.Errorf("%v: trailers %v", code, trailer)
		}
	}
	if _, err := client.EmptyCall(t.Context(), &grpc_testing.Empty{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a call that the server does not have: %v", err)
	}

	// The client's deadline reaches the server, and its end too.
	const limit = 500 * time.Millisecond
	waiting := &grpc_testing.SimpleRequest{ResponseSize: 1}
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if _, err := client.UnaryCall(ctx, waiting); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("a call of %v: %v", limit, err)
	}
	if left := soon(t, server.waiting); left <= 0 || left > limit {
		t.Errorf("the server sees a deadline in %v, want at most %v", left, limit)
	}
	if err := soon(t, server.ended); err == nil {
		t.Error("the server does not know that the deadline is over")
	}

	for _, test := range []struct {
		key, value string
		code       codes.Code
		message    string
	}{
		{"traffic.request.timeout", "100ms", codes.Unavailable, "upstream request timeout"},
		{aborted, "100", codes.Unavailable, "fault filter abort"},
		{weight, "0", codes.Unavailable, "no healthy upstream"},
	} {
		c.setPod("web-0", first, nil)
		c.setService("web", shopIP, map[string]string{byPort: "grpc"})
		if test.key == weight {
			c.setPod("web-0", first, map[string]string{weight: "0"})
		} else {
			c.setService("web", shopIP, map[string]string{byPort: "grpc", test.key: test.value})
		}
		c.publish(t)
		if _, err := client.UnaryCall(t.Context(), waiting); status.Code(err) != test.code || status.Convert(err).Message() != test.message {
			t.Errorf("%s=%s: %v", test.key, test.value, err)
		}
	}
	if n := client.dials.Load(); n != 1 {
		t.Errorf("the client connected %d times", n)
	}
}

// TestGRPCServerGoes: a call under way at a server that dies is UNAVAILABLE, and those after it go to the other server: at
// once with a retry, and without one when Kubernetes knows. A server that says goodbye first loses no call.
func TestGRPCServerGoes(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	a, _ := pair(t, w, c, nil)
	startSidecar(t, w, control)
	client := w.grpcClient(t, shopIP+":80", "web")

	c.setPod("web-1", second, map[string]string{weight: "0"})
	c.publish(t)
	result := make(chan error, 1)
	go func() {
		_, err := client.UnaryCall(t.Context(), &grpc_testing.SimpleRequest{ResponseSize: 1})
		result <- err
	}()
	soon(t, a.waiting)
	c.setPod("web-1", second, nil)
	c.publish(t)
	a.Stop()
	if err := soon(t, result); status.Code(err) != codes.Unavailable {
		t.Errorf("the server of a call died: %v", err)
	}
	if got := client.calls(t, 20); got["web-1"] == 0 || got["Unavailable"] == 0 {
		t.Errorf("one of two servers is dead: %v", got)
	}
	c.setService("web", shopIP, map[string]string{byPort: "grpc", "traffic.retries.connect-failure": "1"})
	c.publish(t)
	if got := client.calls(t, 50); got["web-1"] != 50 {
		t.Errorf("with a retry: %v", got)
	}
	c.setService("web", shopIP, map[string]string{byPort: "grpc"})
	c.setEndpoints("web") // without web-0
	c.setEndpoints("web", second)
	c.publish(t)
	if got := client.calls(t, 50); got["web-1"] != 50 {
		t.Errorf("without the dead one: %v", got)
	}

	graceful := w.grpcAt(t, third, "web-2")
	c.setEndpoints("web", second, third)
	c.publish(t)
	done := make(chan struct{})
	answers := make(chan map[string]int, 1)
	go func() {
		got := map[string]int{}
		for {
			select {
			case <-done:
				answers <- got
				return
			default:
				got[client.call(t)]++
			}
		}
	}()
	<-time.After(100 * time.Millisecond)
	c.setEndpoints("web", second)
	c.publish(t)
	graceful.GracefulStop()
	close(done)
	if got := soon(t, answers); got["web-1"] == 0 || got["web-2"] == 0 || len(got) != 2 {
		t.Errorf("while a server ends as it should: %v", got)
	}
	if n := client.dials.Load(); n != 1 {
		t.Errorf("the client connected %d times", n)
	}
}
