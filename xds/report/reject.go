package report

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// rejected is the reason of these Events, by which users filter.
const rejected = "TrafficRejected"

// A Rejection is a version of an Envoy resource that a proxy refused: the proxy goes on with what it had.
type Rejection struct {
	// Owner is the Kubernetes object that the resource comes from, if any.
	Owner mesh.Object
	// Resource is its type and name: "Listener 10.96.0.1:80".
	Resource, Version string
	// Proxy names the first that refused it, Message is its explanation.
	Proxy, Message string
}

// A resource is what has one version at a time.
type resource struct {
	owner mesh.Object
	name  string
}

// Reject tells the owner of a resource, once for each version, however many proxies refuse it. It does not block.
//
// Each replica tells of its own proxies, whether or not it holds the Lease: no other knows. The Event's name is the same
// on all of them, so that the API server keeps the first.
//
// What comes from no object, such as the collector of traces, comes from whoever installed this and reads its log.
func (r *Reporter) Reject(x Rejection) {
	if x.Owner == (mesh.Object{}) {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	id := resource{x.Owner, x.Resource}
	if r.rejected[id] == x.Version {
		return
	}
	r.rejected[id] = x.Version
	r.rejections.Add(x)
}

// workRejections tells what is queued.
func (r *Reporter) workRejections(ctx context.Context) {
	for {
		x, closed := r.rejections.Get()
		if closed {
			return
		}
		if r.limiter.Wait(ctx) == nil { // otherwise ctx has ended
			if err := r.tellRejection(ctx, x); err != nil {
				r.config.Logger.Warn("event not written", "object", x.Owner.String(), "resource", x.Resource, "error", err)
				r.rejections.AddAfter(x, quietFor)
			}
		}
		r.rejections.Done(x)
	}
}

func (r *Reporter) tellRejection(ctx context.Context, x Rejection) error {
	sum := sha256.Sum256([]byte(strings.Join([]string{x.Owner.String(), x.Resource, x.Version}, "\n")))
	note := fmt.Sprintf("Envoy of %s refused version %s of %s and goes on with what it had: %s", x.Proxy, x.Version, x.Resource, x.Message)
	err := r.create(ctx, x.Owner, eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", x.Owner.Name, sum[:8])},
		Reason:     rejected, Action: "Reject", Note: bounded(note),
	})
	if apierrors.IsAlreadyExists(err) {
		return nil // another replica was first
	}
	return err
}
