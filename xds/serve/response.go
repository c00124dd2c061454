package serve

import (
	"cmp"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// maxResponse bounds the resources of one response, in bytes; a single larger one travels alone. It is far below the
// 4 MiB that a gRPC client may refuse, and a thousand listeners or clusters still fit into one or two.
const maxResponse = 1 << 20

// Field numbers of envoy.service.discovery.v3: DeltaDiscoveryResponse, its Resource, and google.protobuf.Any.
const (
	responseVersion, responseResources, responseType, responseNonce, responseRemoved = 1, 2, 4, 5, 6

	resourceVersion, resourceBody, resourceName = 1, 2, 3

	anyType, anyValue = 1, 2
)

// A response is a DeltaDiscoveryResponse whose resources are encoded already. Encoding it copies no resource: the
// buffers of a record are shared by every stream that sends it.
type response struct {
	typeURL string
	nonce   string
	version string
	items   []item
}

// size is the number of bytes that the resources take.
func (r *response) size() int {
	n := 0
	for _, it := range r.items {
		n += it.size()
	}
	return n
}

func (r *response) encode() mem.BufferSlice {
	var head []byte
	head = appendString(head, responseVersion, r.version)
	head = appendString(head, responseType, r.typeURL)
	head = appendString(head, responseNonce, r.nonce)
	out := make(mem.BufferSlice, 1, 1+2*len(r.items))
	for _, it := range r.items {
		if it.record == nil {
			head = appendString(head, responseRemoved, it.name)
			continue
		}
		out = append(out, it.record.entry...)
	}
	out[0] = mem.SliceBuffer(head)
	return out
}

// encodeEntry encodes one element of DeltaDiscoveryResponse.resources, body last so that its bytes are used where they
// are.
func encodeEntry(r envoy.Resource) mem.BufferSlice {
	value := r.Body.GetValue()
	body := appendString(nil, anyType, r.Body.GetTypeUrl())
	body = protowire.AppendTag(body, anyValue, protowire.BytesType)
	body = protowire.AppendVarint(body, uint64(len(value)))

	var resource []byte
	resource = appendString(resource, resourceName, r.Name)
	resource = appendString(resource, resourceVersion, r.Version)
	resource = protowire.AppendTag(resource, resourceBody, protowire.BytesType)
	resource = protowire.AppendVarint(resource, uint64(len(body)+len(value)))
	resource = append(resource, body...)

	head := protowire.AppendTag(nil, responseResources, protowire.BytesType)
	head = protowire.AppendVarint(head, uint64(len(resource)+len(value)))
	head = append(head, resource...)
	return mem.BufferSlice{mem.SliceBuffer(head), mem.SliceBuffer(value)}
}

func appendString(b []byte, field protowire.Number, s string) []byte {
	b = protowire.AppendTag(b, field, protowire.BytesType)
	return protowire.AppendString(b, s)
}

// A codec is gRPC's own for protobuf, but for our responses and requests.
type codec struct {
	encoding.CodecV2
	decoder
}

// Marshal encodes v.
func (c codec) Marshal(v any) (mem.BufferSlice, error) {
	if r, ok := v.(*response); ok {
		return r.encode(), nil
	}
	return c.CodecV2.Marshal(v)
}

// Unmarshal decodes into v. What is wrong with a request is told in it: gRPC would make an internal error of it.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if r, ok := v.(*request); ok {
		r.message, r.err = c.decode(data)
		return nil
	}
	return c.CodecV2.Unmarshal(data, v)
}

func compareKeys(a, b envoy.Key) int {
	return cmp.Or(cmp.Compare(a.Type, b.Type), cmp.Compare(a.Name, b.Name))
}
