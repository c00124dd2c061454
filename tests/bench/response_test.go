package bench

import (
	"fmt"

	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// A response is a DeltaDiscoveryResponse whose resources are not decoded: a hundred clients share two processors with what
// they measure.
type response struct {
	typeURL, nonce string
	resources      []resource
	removed        []string
}

type resource struct {
	name, version string
	// body is the resource's own message.
	body []byte
}

// codec is gRPC's own but for responses.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(proto.Name)} }

// Unmarshal decodes into v.
func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	r, ok := v.(*response)
	if !ok {
		return c.CodecV2.Unmarshal(data, v)
	}
	return eachField(data.Materialize(), func(number protowire.Number, value []byte) error {
		switch number {
		case 2:
			var decoded resource
			if err := decoded.decode(value); err != nil {
				return err
			}
			r.resources = append(r.resources, decoded)
		case 4:
			r.typeURL = string(value)
		case 5:
			r.nonce = string(value)
		case 6:
			r.removed = append(r.removed, string(value))
		default:
		}
		return nil
	})
}

func (r *resource) decode(text []byte) error {
	return eachField(text, func(number protowire.Number, value []byte) error {
		switch number {
		case 1:
			r.version = string(value)
		case 2: // google.protobuf.Any
			return eachField(value, func(number protowire.Number, value []byte) error {
				if number == 2 {
					r.body = value
				}
				return nil
			})
		case 3:
			r.name = string(value)
		default:
		}
		return nil
	})
}

// eachField calls do for each field of a message, all of which have a length.
func eachField(text []byte, do func(protowire.Number, []byte) error) error {
	for len(text) > 0 {
		number, kind, n := protowire.ConsumeTag(text)
		if n < 0 || kind != protowire.BytesType {
			return fmt.Errorf("field %d has wire type %d", number, kind)
		}
		value, m := protowire.ConsumeBytes(text[n:])
		if m < 0 {
			return protowire.ParseError(m)
		}
		if err := do(number, value); err != nil {
			return err
		}
		text = text[n+m:]
	}
	return nil
}
