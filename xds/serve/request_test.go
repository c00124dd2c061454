package serve

import (
	"bytes"
	"runtime"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"
)

// rawCodec lets a client send bytes that no encoder would make.
type rawCodec struct{ encoding.CodecV2 }

type rawRequest []byte

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if raw, ok := v.(rawRequest); ok {
		return mem.BufferSlice{mem.SliceBuffer(raw)}, nil
	}
	return c.CodecV2.Marshal(v)
}

// many repeats a field's encoding until the request is as large as it may be.
func many(field protowire.Number, value []byte) []byte {
	one := protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), value)
	return bytes.Repeat(one, (maxRequest-1000)/len(one))
}

func encoded(t testing.TB, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// hostile are requests that are far larger decoded than sent.
func hostile(t testing.TB) map[string][]byte {
	within := func(field protowire.Number, value []byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, field, protowire.BytesType), value)
	}
	values := many(1, nil) // elements of a ListValue
	list := encoded(t, &structpb.Struct{Fields: map[string]*structpb.Value{"x": structpb.NewListValue(&structpb.ListValue{})}})
	list = append(list, within(1, append(within(1, []byte("x")), within(2, within(6, values[:len(values)-100]))...))...)
	return map[string][]byte{
		"empty names":                 many(3, nil),
		"names of one letter":         many(3, []byte("x")),
		"names to unsubscribe":        many(4, nil),
		"versions":                    many(5, nil),
		"locators":                    many(8, nil),
		"nodes":                       many(1, nil),
		"metadata of a node":          within(1, within(3, list)),
		"details of an error":         within(7, many(3, nil)),
		"fields that nobody knows":    many(1000, nil),
		"one field that nobody knows": within(1000, make([]byte, maxRequest-1000)),
		"a long type":                 within(2, bytes.Repeat([]byte("x"), maxRequest-1000)),
		"not a message":               bytes.Repeat([]byte{0xff}, maxRequest-1000),
	}
}

// Few bytes can be very many objects. A pod that sends such requests must not take the control plane's memory from all
// others: they are refused before they are decoded.
func TestHostileRequestsAreNotDecoded(t *testing.T) {
	for name, hostile := range hostile(t) {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			s.Publish(set(staticCluster("c", 1)), nil)
			conn := s.dial(t, s.tls(), grpc.WithDefaultCallOptions(grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2(grpcproto.Name)})))
			p := s.open(t, conn, "a", "Bearer token-a")
			raw := encoded(t, &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: p.id}, TypeUrl: clusters})
			raw = append(raw, hostile...)
			before := allocated()
			_ = p.stream.SendMsg(rawRequest(raw)) // the server may have ended the stream before all is sent
			if code := p.ended(); code != codes.InvalidArgument {
				t.Errorf("the stream ended with %v, want InvalidArgument", p.err)
			}
			// Client and server share the process: the message is there more than once, as bytes.
			if got, most := allocated()-before, uint64(8*maxRequest); got > most {
				t.Errorf("%d MiB were allocated for it, want at most %d", got>>20, most>>20)
			}
			s.wantRefused(t, "request")
		})
	}
}

// allocated is what was allocated since the process began, in bytes.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

// What a request costs once it is decoded is bounded by its entries and its bytes, whatever they are.
func FuzzCheckRequest(f *testing.F) {
	f.Add(encoded(f, &discoveryv3.DeltaDiscoveryRequest{
		Node: &corev3.Node{Id: "a.default"}, TypeUrl: routes, ResponseNonce: "1", ErrorDetail: &statuspb.Status{Message: "no", Details: []*anypb.Any{{}}},
		ResourceNamesSubscribe: []string{"a", "b"}, ResourceNamesUnsubscribe: []string{"c"}, InitialResourceVersions: map[string]string{"a": "1", "": ""},
		ResourceLocatorsSubscribe: []*discoveryv3.ResourceLocator{{Name: "x"}},
	}))
	f.Add([]byte{})
	f.Add([]byte{0x1a, 0x00, 0x1a, 0x00, 0x1a, 0x00, 0x1a, 0x00, 0x1a, 0x00})                   // names
	f.Add([]byte{0x18, 0x01, 0x1b, 0x08, 0x01, 0x1c, 0x2d, 0x00, 0x00, 0x00, 0x00, 0x1a, 0x00}) // their number, other wire types
	f.Add([]byte{0x1b, 0x1b, 0x1c})                                                             // a group without end
	f.Add([]byte{0x00, 0x00})                                                                   // no field
	f.Fuzz(func(t *testing.T, raw []byte) {
		const mostEntries, mostRest = 4, 64
		refused := checkRequest(raw, mostEntries, mostRest)
		var req discoveryv3.DeltaDiscoveryRequest
		if proto.Unmarshal(raw, &req) != nil {
			return // it is refused in any case
		}
		entries := len(req.GetResourceNamesSubscribe()) + len(req.GetResourceNamesUnsubscribe()) + len(req.GetInitialResourceVersions())
		req.ResourceNamesSubscribe, req.ResourceNamesUnsubscribe, req.InitialResourceVersions = nil, nil, nil
		rest := proto.Size(&req)
		if refused == nil && (entries > mostEntries || rest > mostRest) {
			t.Errorf("%x has %d entries and %d other bytes and was let through", raw, entries, rest)
		}
		if refused != nil && len(raw) <= min(mostEntries, mostRest) {
			t.Errorf("%x is small, and was refused: %v", raw, refused)
		}
	})
}

// Those that are refused because of one limit have not reached the other.
func TestCheckRequestLimits(t *testing.T) {
	names := func(n int) []byte {
		return encoded(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: "t", ResourceNamesSubscribe: make([]string, n)})
	}
	for _, test := range []struct {
		raw []byte
		ok  bool
	}{
		{names(9), true},
		{names(10), false},
		{encoded(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(make([]byte, 98))}), true},
		{encoded(t, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: string(make([]byte, 99))}), false},
		{encoded(t, &discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{string(make([]byte, 1000))}}), true},
		{[]byte{0x1a}, false},
	} {
		if err := checkRequest(test.raw, 10, 100); (err == nil) != test.ok {
			t.Errorf("%d bytes %.20x: %v, want it to be accepted: %v", len(test.raw), test.raw, err, test.ok)
		}
	}
}
