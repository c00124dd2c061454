package serve

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// These run 1,000 services and 100 proxies over TLS in one process. The proxies read no further than the nonce, so that
// it is the server that is measured.
const (
	benchServices = 1000
	benchProxies  = 100
)

func serviceName(i int) string { return fmt.Sprintf("%d|default|service-%04d.outbound", 8000+i, i) }

func benchState() (u Update, names []string) {
	for i := range benchServices {
		name := serviceName(i)
		names = append(names, name)
		u.Set = append(u.Set, cluster(name, 1), endpoint(name, 1), listener(name, name, 1), route(name, 1))
	}
	return u, names
}

// lazyCodec leaves a response encoded but for what an acknowledgement needs.
type lazyCodec struct{ encoding.CodecV2 }

type lazyResponse struct {
	typeURL, nonce string
	resources      int
}

func (c lazyCodec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*lazyResponse)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	buf := data.MaterializeToBuffer(mem.DefaultBufferPool())
	defer buf.Free()
	for b := buf.ReadOnlyData(); len(b) > 0; {
		field, kind, n := protowire.ConsumeTag(b)
		b = b[n:]
		if kind != protowire.BytesType {
			return fmt.Errorf("field %d has wire type %d", field, kind)
		}
		value, n := protowire.ConsumeBytes(b)
		b = b[n:]
		switch field {
		case responseResources, responseRemoved:
			r.resources++
		case responseType:
			r.typeURL = string(value)
		case responseNonce:
			r.nonce = string(value)
		default:
		}
	}
	return nil
}

// subscribeAsEnvoy subscribes to everything and acknowledges until the stream ends; counted gets the number of resources
// of each response.
func (s *testServer) subscribeAsEnvoy(b *testing.B, names []string, counted func(int)) {
	b.Helper()
	conn := s.dial(b, s.tls(), grpc.WithDefaultCallOptions(
		grpc.ForceCodecV2(lazyCodec{encoding.GetCodecV2(proto.Name)}), grpc.MaxCallRecvMsgSize(4<<20)))
	p := openStream(b.Context(), b, conn, "Bearer token-a")
	node := &corev3.Node{Id: "a.default"}
	for typeURL, subscribe := range map[string][]string{clusters: nil, endpoints: names, listeners: nil, routes: names} {
		if err := p.Send(&discoveryv3.DeltaDiscoveryRequest{Node: node, TypeUrl: typeURL, ResourceNamesSubscribe: subscribe}); err != nil {
			b.Fatal(err)
		}
	}
	go func() {
		for {
			var r lazyResponse
			if p.RecvMsg(&r) != nil {
				return
			}
			_ = p.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce})
			counted(r.resources)
		}
	}()
}

// connectAll connects the proxies and waits until each has everything.
func (s *testServer) connectAll(b *testing.B, names []string, resources int) {
	b.Helper()
	var synced sync.WaitGroup
	synced.Add(benchProxies)
	for range benchProxies {
		got := 0
		s.subscribeAsEnvoy(b, names, func(n int) {
			if got += n; got-n < resources && got >= resources {
				synced.Done()
			}
		})
	}
	synced.Wait()
}

func BenchmarkFirstSync(b *testing.B) {
	u, names := benchState()
	busy := 0.0
	for range b.N {
		b.StopTimer()
		s := startServer(b, func(c *Config) { c.NewStreams = 1e6 })
		s.Publish(u, nil)
		before, began := heap(), processorTime()
		b.StartTimer()
		s.connectAll(b, names, len(u.Set))
		b.StopTimer()
		busy += processorTime() - began
		b.ReportMetric((heap()-before)/benchProxies/1024, "KiB/proxy")
		s.close()
	}
	b.ReportMetric(busy/float64(b.N)*1000, "cpu-ms/op")
}

func BenchmarkPublishOfAllServices(b *testing.B) {
	u, _ := benchState()
	for range b.N {
		st := newStore(0)
		st.publish(u, newTracker(func(Applied) {}))
	}
}

// BenchmarkOneChange is the time from Publish to the acknowledgement of the last of all proxies.
func BenchmarkOneChange(b *testing.B) {
	change := map[string]func(i int) Update{
		"weight": func(i int) Update { return set(endpoint(serviceName(0), i+2)) },
		"option": func(i int) Update { return set(route(serviceName(0), i+2)) },
		"open and close a port": func(i int) Update {
			if i%2 == 1 {
				return Update{
					Remove: append(remove(clusters, "new").Remove, append(remove(listeners, "new").Remove,
						append(remove(endpoints, "new").Remove, remove(routes, "new").Remove...)...)...),
				}
			}
			return set(staticCluster("new", 1), endpoint("new", 1), listener("new", "", 1), route("new", 1))
		},
	}
	for name, update := range change {
		b.Run(strings.ReplaceAll(name, " ", "_"), func(b *testing.B) {
			u, names := benchState()
			s := startServer(b, func(c *Config) { c.NewStreams = 1e6 })
			s.Publish(u, nil)
			s.connectAll(b, names, len(u.Set))
			s.rest()
			began := processorTime()
			b.ResetTimer()
			for i := range b.N {
				done := make(chan Applied, 1)
				s.Publish(update(i), func(a Applied) { done <- a })
				if a := <-done; a.Acknowledged != benchProxies {
					b.Fatalf("applied: %+v", a)
				}
			}
			b.StopTimer()
			b.ReportMetric((processorTime()-began)/float64(b.N)*1000, "cpu-ms/op")
			s.close()
		})
	}
}

// rest waits until all proxies have acknowledged everything.
func (s *testServer) rest() {
	done := make(chan Applied, 1)
	s.Publish(set(staticCluster("last", 1)), func(a Applied) { done <- a })
	<-done
}

// processorTime is what the process has used, clients included, in seconds. Unlike the time that passes it means something
// on a busy machine.
func processorTime() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds()
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapInuse + m.StackInuse)
}
