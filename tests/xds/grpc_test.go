package xds

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/interop/grpc_testing"
)

const shopIP = "10.96.80.80"

// pair is a Service web of gRPC with the pods web-0 and web-1.
func pair(t *testing.T, w *world, c *cluster, labels map[string]string) (a, b *grpcServer) {
	t.Helper()
	a, b = w.grpcAt(t, first, "web-0"), w.grpcAt(t, second, "web-1")
	c.setService("web", shopIP, with(labels, byPort, "grpc"))
	c.setEndpoints("web", first, second)
	c.setPod("web-0", first, nil)
	c.setPod("web-1", second, nil)
	c.publish(t)
	return a, b
}

func with(labels map[string]string, key, value string) map[string]string {
	labels = maps.Clone(labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels[key] = value
	return labels
}

// TestGRPCIsBalancedPerCall: the calls of one connection go to both servers, as their weights say, and follow when they
// change; the connection stays.
func TestGRPCIsBalancedPerCall(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	pair(t, w, c, nil)
	startSidecar(t, w, control)
	client := w.grpcClient(t, shopIP+":80", "web")
	near := func(what string, a, b int) {
		t.Helper()
		const slack = 5 // the balancer goes round: the shares are as exact as its start
		got := client.calls(t, a+b)
		if got["web-0"] < a-slack || got["web-0"] > a+slack || got["web-0"]+got["web-1"] != a+b {
			t.Errorf("%s: %v, want %d and %d", what, got, a, b)
		}
	}
	near("equal weights", 150, 150)
	c.setPod("web-1", second, map[string]string{weight: "50"})
	c.publish(t)
	near("100 to 50", 200, 100)
	c.setPod("web-1", second, map[string]string{weight: "0"})
	c.publish(t)
	if got := client.calls(t, 50); got["web-0"] != 50 {
		t.Errorf("100 to 0: %v", got)
	}
	if n := client.dials.Load(); n != 1 {
		t.Errorf("the client connected %d times", n)
	}
}

// TestGRPCStreams: streams are silent for longer than Envoy's default timeout of requests, and live through every change
// of their Service's labels, through their server's leaving the Service too.
func TestGRPCStreams(t *testing.T) {
	t.Parallel()
	const silence = 16 * time.Second // Envoy's default is 15
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	pair(t, w, c, nil)
	startSidecar(t, w, control)
	client := w.grpcClient(t, shopIP+":80", "web")
	var streams []grpc.BidiStreamingClient[grpc_testing.StreamingOutputCallRequest, grpc_testing.StreamingOutputCallResponse]
	var names []string
	ask := func(i int) string {
		t.Helper()
		if err := streams[i].Send(&grpc_testing.StreamingOutputCallRequest{}); err != nil {
			return err.Error()
		}
		r, err := streams[i].Recv()
		if err != nil {
			return err.Error()
		}
		return string(r.GetPayload().GetBody())
	}
	for i := range 2 {
		stream, err := client.FullDuplexCall(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, stream)
		names = append(names, ask(i))
	}
	if slices.Sort(names); !slices.Equal(names, []string{"web-0", "web-1"}) {
		t.Fatalf("streams are with %q", names)
	}
	names = []string{ask(0), ask(1)}

	slow, err := client.StreamingOutputCall(t.Context(), &grpc_testing.StreamingOutputCallRequest{
		ResponseParameters: []*grpc_testing.ResponseParameters{{IntervalUs: int32(silence.Microseconds())}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := slow.Recv(); err != nil {
		t.Errorf("a stream whose server was silent for %v: %v", silence, err)
	}
	changes := map[string]func(){
		"weight": func() { c.setPod("web-1", second, map[string]string{weight: "0"}) },
		"timeout": func() {
			c.setService("web", shopIP, map[string]string{byPort: "grpc", "traffic.request.timeout": "100ms"})
		},
		"fault":   func() { c.setService("web", shopIP, map[string]string{byPort: "grpc", aborted: "100"}) },
		"policy":  func() { c.setService("web", shopIP, map[string]string{byPort: "grpc", "traffic.lb.policy": "RANDOM"}) },
		"leaving": func() { c.setEndpoints("web", first) },
	}
	for _, what := range []string{"silence", "weight", "timeout", "fault", "policy", "leaving"} {
		if change := changes[what]; change != nil {
			change()
			c.publish(t)
		}
		for i := range streams {
			if got := ask(i); got != names[i] {
				t.Errorf("after %s: a stream with %s: %s", what, names[i], got)
			}
		}
	}
	for i, stream := range streams {
		if err := stream.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) || !slices.Equal(stream.Trailer().Get(trailerKey), names[i:i+1]) {
			t.Errorf("a stream with %s ends with %v and %v", names[i], err, stream.Trailer())
		}
	}
	if n := client.dials.Load(); n != 1 {
		t.Errorf("the client connected %d times", n)
	}
}

// TestGRPCUpload: a client streams 64 MiB in messages of 1 MiB.
func TestGRPCUpload(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	pair(t, w, c, nil)
	startSidecar(t, w, control)
	stream, err := w.grpcClient(t, shopIP+":80", "web").StreamingInputCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const messages, size = 64, 1 << 20
	payload := &grpc_testing.Payload{Body: make([]byte, size)}
	for range messages {
		if err := stream.Send(&grpc_testing.StreamingInputCallRequest{Payload: payload}); err != nil {
			t.Fatal(err)
		}
	}
	if answer, err := stream.CloseAndRecv(); err != nil || answer.GetAggregatedPayloadSize() != messages*size {
		t.Errorf("the server got %d bytes, %v", answer.GetAggregatedPayloadSize(), err)
	}
}

// TestGRPCHeadless: by the Service's name calls are balanced over its pods, by a pod's name or IP they reach that pod.
func TestGRPCHeadless(t *testing.T) {
	w := newWorld(t)
	control := startControl(t, w)
	c := newCluster(t, control)
	for i, address := range []string{first, second, third} {
		w.grpcAt(t, address, fmt.Sprint("db-", i))
	}
	c.setService("db", "None", map[string]string{byPort: "grpc"})
	c.setEndpoints("db", first, second, third)
	c.setPod("db-2", third, map[string]string{weight: "0"})
	c.publish(t)
	startSidecar(t, w, control)

	for _, host := range []string{"db", "db.default.svc.cluster.local:8080"} {
		got := w.grpcClient(t, third+":8080", host).calls(t, 100)
		if got["db-0"] < 45 || got["db-1"] < 45 || got["db-0"]+got["db-1"] != 100 {
			t.Errorf("by the name %s: %v, want 50 and 50", host, got)
		}
	}
	for _, host := range []string{"db-2.db:8080", third + ":8080"} {
		if got := w.grpcClient(t, third+":8080", host).calls(t, 20); got["db-2"] != 20 {
			t.Errorf("by the name %s: %v", host, got)
		}
	}
}

// soon receives what must come.
func soon[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(patience):
		t.Fatalf("nothing came in %v", patience)
	}
	return v
}
