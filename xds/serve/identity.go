package serve

import (
	"context"
	"errors"

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
	// NodeID is the only Envoy node id that the bearer may use: for a sidecar "<pod>.<namespace>".
	NodeID string
}

// ErrRefused is what an Authenticator's error wraps when the token was checked and is not good. Any other error means
// that it could not be checked now: the proxy is turned away all the same, but told to try again.
var ErrRefused = errors.New("token refused")

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
	// Message is the proxy's own explanation.
	Message string
}
