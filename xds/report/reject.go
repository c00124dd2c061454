package report

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

const (
	// rejected is the reason of these Events, by which users filter.
	rejected = "TrafficRejected"
	// They have a limit of their own, so that many do not delay those about labels.
	rejectionsPerSecond, rejectionBurst = 1, 20
	// mostRefusers is how many namespaces an owner is told of for one version.
	mostRefusers = 3
	// What was told is remembered of the latest resources, and for as long as the API server keeps an Event.
	mostRejected, rejectedFor = 4096, time.Hour
)

// A Rejection is a version of an Envoy resource that a proxy refused: the proxy goes on with what it had.
type Rejection struct {
	// Owner is the Kubernetes object that the resource comes from, if any.
	Owner mesh.Object
	// Resource is its type and name: "Listener 10.96.0.1:80".
	Resource, Version string
	// Proxy is the pod whose Envoy refused it.
	Proxy mesh.Object
}

// A resource is what has one version at a time. That of an owner's successor of the same name is another.
type resource struct {
	owner types.UID
	name  string
}

// refusers are the namespaces of the proxies of which the owner of a resource was told that they refuse its version.
type refusers struct {
	version    string
	namespaces map[string]bool
}

// Reject tells the owner of a resource, for each version once of each namespace with a proxy that refuses it, and of few
// namespaces but the owner's own: a pod can refuse what is good, and must not keep the owner from hearing of others. For
// the same reason the Event has our words alone. It does not block.
//
// Each replica tells of its own proxies, whether or not it holds the Lease: no other knows. The Event's name is the same
// on all of them, so that the API server keeps the first.
//
// What comes from no object, such as the collector of traces, comes from whoever installed this and reads its log.
func (r *Reporter) Reject(x Rejection) {
	if x.Owner == (mesh.Object{}) {
		return
	}
	id := resource{r.config.Reference(x.Owner).UID, x.Resource}
	if id.owner == "" {
		return // it is gone
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	known, ok := r.rejected.Get(id)
	told, _ := known.(refusers)
	if !ok || told.version != x.Version {
		told = refusers{x.Version, map[string]bool{}}
		r.rejected.Add(id, told, rejectedFor)
	}
	namespace := x.Proxy.Namespace
	if told.namespaces[namespace] || namespace != x.Owner.Namespace && len(told.namespaces) >= mostRefusers {
		return
	}
	told.namespaces[namespace] = true
	r.rejections.Add(x)
}

// workRejections tells what is queued.
func (r *Reporter) workRejections(ctx context.Context) {
	for {
		x, closed := r.rejections.Get()
		if closed {
			return
		}
		if r.rejectionLimiter.Wait(ctx) == nil { // otherwise ctx has ended
			if err := r.tellRejection(ctx, x); err != nil {
				r.config.Logger.Warn("event not written", "object", x.Owner.String(), "resource", x.Resource, "error", err)
				if !hopeless(err) {
					r.rejections.AddAfter(x, quietFor)
				}
			}
		}
		r.rejections.Done(x)
	}
}

func (r *Reporter) tellRejection(ctx context.Context, x Rejection) error {
	sum := sha256.Sum256([]byte(strings.Join([]string{x.Owner.String(), x.Resource, x.Version, x.Proxy.Namespace}, "\n")))
	note := fmt.Sprintf("Envoy of %s refused version %s of %s and goes on with what it had: see the log of %s", x.Proxy, x.Version, x.Resource, Controller)
	err := r.create(ctx, x.Owner, eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s.%x", x.Owner.Name, sum[:8])},
		Reason:     rejected, Action: "Reject", Note: bounded(note),
	})
	if apierrors.IsAlreadyExists(err) {
		return nil // another replica was first
	}
	return err
}
