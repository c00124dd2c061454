package serve

import (
	"fmt"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// Field numbers of envoy.service.discovery.v3.DeltaDiscoveryRequest.
const requestSubscribe, requestUnsubscribe, requestVersions = 3, 4, 5

// A request is what a proxy sent, or why that is not decoded.
type request struct {
	message *discoveryv3.DeltaDiscoveryRequest
	err     error
}

// A decoder decodes requests and knows what they may cost. Two bytes can become an object of a hundred, so it looks at a
// request before it decodes it.
type decoder struct {
	// names is how many resources a stream may name now.
	names func() int
	// large has room for the large requests that are decoded at the same time.
	large chan struct{}
}

func newDecoder(names func() int) decoder {
	return decoder{names: names, large: make(chan struct{}, largeAtOnce)}
}

func (d decoder) decode(data mem.BufferSlice) (*discoveryv3.DeltaDiscoveryRequest, error) {
	if data.Len() > largeRequest {
		d.large <- struct{}{}
		defer func() { <-d.large }()
	}
	// Not gRPC's pool, which has buffers of 1 MiB for the 70 kB in which a proxy tells what it has.
	buffer := data.MaterializeToBuffer(mem.NopBufferPool{})
	defer buffer.Free()
	raw := buffer.ReadOnlyData()
	// A proxy that reconnects says of each resource that it wants it, and which version it has.
	if err := checkRequest(raw, 2*d.names(), mostRest); err != nil {
		return nil, &refusal{"request", codes.InvalidArgument, err}
	}
	message := new(discoveryv3.DeltaDiscoveryRequest)
	if err := proto.Unmarshal(raw, message); err != nil {
		return nil, &refusal{"request", codes.InvalidArgument, fmt.Errorf("not a DeltaDiscoveryRequest: %w", err)}
	}
	return message, nil
}

// checkRequest refuses an encoded request of more entries, which are names and versions, or of more bytes of anything
// else. Every field counts as an entry, so that what passes has no more of any kind.
func checkRequest(raw []byte, mostEntries, mostRest int) error {
	entries, rest := 0, 0
	for len(raw) > 0 {
		field, kind, n := protowire.ConsumeField(raw)
		if n < 0 {
			return fmt.Errorf("not a DeltaDiscoveryRequest: %w", protowire.ParseError(n))
		}
		raw = raw[n:]
		entries++
		if !isEntry(field, kind) {
			rest += n
		}
	}
	if entries > mostEntries {
		return fmt.Errorf("%d names, versions and other fields are in one request, at most %d may be", entries, mostEntries)
	}
	if rest > mostRest {
		return fmt.Errorf("the request has %d bytes beside its names and versions, at most %d are allowed", rest, mostRest)
	}
	return nil
}

func isEntry(field protowire.Number, kind protowire.Type) bool {
	switch field {
	case requestSubscribe, requestUnsubscribe, requestVersions:
		return kind == protowire.BytesType
	default:
		return false
	}
}
