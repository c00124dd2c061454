package envoy

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A Key names an Envoy resource: its type URL and its name.
type Key struct {
	Type string
	Name string
}

func (k Key) compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Type, other.Type), cmp.Compare(k.Name, other.Name))
}

// A Resource is one named Envoy resource, validated and marshalled once; every stream that subscribes to it sends the
// same bytes. It is not changed after it is made.
type Resource struct {
	Key
	// Version is a hash of Body: two resources of one version are equal.
	Version string
	Body    *anypb.Any
	// Owner is the Kubernetes object that the resource comes from, to which a rejection is reported; none for what ports
	// share.
	Owner mesh.Object
	// Eager says that Envoy refuses the resource unless a cluster that it names is there: a listener that reports traces.
	// Others look for clusters with each request.
	Eager bool
	// madeOf is of a listener the version of its filter. Address, owner and filter are all that it is made of.
	madeOf string
}

// shared reports whether the resource is any port's that refers to it.
func (r Resource) shared() bool { return r.Owner == (mesh.Object{}) }

// validator is what every message of the Envoy API implements: the rules of its own definition.
type validator interface{ ValidateAll() error }

// NewResource validates and marshals a message. The error names the resource and its owner.
func NewResource(owner mesh.Object, name string, message proto.Message) (Resource, error) {
	value, err := marshal(message)
	if err != nil {
		return Resource{}, fmt.Errorf("resource %s of %s: %w", name, owner, err)
	}
	return assembled(owner, name, "type.googleapis.com/"+string(message.ProtoReflect().Descriptor().FullName()), [][]byte{value}), nil
}

// marshal validates a message, or a fragment of one, and returns the same bytes for the same content.
func marshal(message proto.Message) ([]byte, error) {
	if v, ok := message.(validator); ok {
		if err := v.ValidateAll(); err != nil {
			return nil, err
		}
	}
	return proto.MarshalOptions{Deterministic: true}.Marshal(message)
}

// assembled is the resource of fragments: a message, each with some of its fields. Bytes of one type that follow each other
// are one message with all that they have (protobuf.dev/programming-guides/encoding, "Last One Wins"), so that of a large one
// only what changed is made anew.
func assembled(owner mesh.Object, name, typeURL string, fragments [][]byte) Resource {
	value := slices.Concat(fragments...)
	return Resource{
		Key:     Key{Type: typeURL, Name: name},
		Version: version(value),
		Body:    &anypb.Any{TypeUrl: typeURL, Value: value},
		Owner:   owner,
	}
}

func version(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:8])
}
