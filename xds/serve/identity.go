package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// An Identity is what a token proves about its bearer.
type Identity struct {
	Namespace      string
	ServiceAccount string
	Pod            string
	// UID is the pod's, so that a pod's successor of the same name is another identity.
	UID string
	// NodeID is the only Envoy node id that the bearer may use: for a sidecar "<pod>.<namespace>", for a gateway
	// GatewayNodeID.
	NodeID string
}

// ErrRefused is what an Authenticator's error wraps when the token was checked and is not good. Any other error means
// that it could not be checked now: the proxy is turned away all the same, but told to try again.
var ErrRefused = errors.New("token refused")

// ErrOverload is what an Authenticator's error wraps when it was asked too much from one address.
var ErrOverload = errors.New("too many unknown tokens from this address")

// An Authenticator tells whom a bearer token belongs to.
type Authenticator interface {
	Authenticate(ctx context.Context, token string) (Identity, error)
}

// A Rejection is a resource that one proxy refused. The proxy keeps the version that it had, and is not sent this one
// again until its content changes; other proxies are not concerned.
type Rejection struct {
	Proxy   Identity
	Key     envoy.Key
	Version string
	// Owner is the Kubernetes object that the resource comes from.
	Owner mesh.Object
	// Message is the proxy's own explanation, cut to 1 KiB. A proxy can say anything: do not show it as ours.
	Message string
}

// A refusal ends a stream that may not be served.
type refusal struct {
	// reason is the metric's label.
	reason string
	code   codes.Code
	err    error
}

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

// GRPCStatus is what the proxy is told. It does not hear why its token could not be checked: that speaks of the cluster
// to somebody who has not proved anything.
func (r *refusal) GRPCStatus() *status.Status {
	if r.reason == "token_review" {
		return status.New(r.code, "the token cannot be checked now; try again")
	}
	return status.New(r.code, r.Error())
}

// authenticate derives the identity from the stream's token. It fails closed.
func authenticate(ctx context.Context, a Authenticator) (Identity, error) {
	token, ok := bearerToken(ctx)
	if !ok {
		return Identity{}, errNoToken
	}
	id, err := a.Authenticate(ctx, token)
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, ErrRefused):
		return Identity{}, &refusal{"token", codes.Unauthenticated, err}
	case ctx.Err() != nil:
		return Identity{}, ctx.Err() // it went away
	case errors.Is(err, ErrOverload):
		return Identity{}, &refusal{"overload", codes.Unavailable, err}
	default:
		return Identity{}, &refusal{"token_review", codes.Unavailable, err}
	}
}

func bearerToken(ctx context.Context) (string, bool) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) != 1 {
		return "", false
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	return token, ok && strings.EqualFold(scheme, "bearer") && token != ""
}

// checkNode compares the node that a request claims to be of with the one that the token proves. Only the first request
// of a stream must carry a node.
func checkNode(proxy Identity, node *corev3.Node) error {
	if node == nil || node.GetId() == proxy.NodeID {
		return nil
	}
	return &refusal{
		"node_id", codes.Unauthenticated,
		fmt.Errorf("node id %.300q is not that of the token, %q", node.GetId(), proxy.NodeID),
	}
}
