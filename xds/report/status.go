package report

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// retryStatus is how long a status waits that could not be written.
const retryStatus = 5 * time.Second

// Statuses writes the gateway's address into the Ingresses that it serves, and takes it out of those that it does not,
// while its replica leads. What another controller wrote into these it never touches: the API keeps who wrote a status.
type Statuses struct {
	client  kubernetes.Interface
	current func(mesh.Object) *networkingv1.Ingress
	manager string
	log     *slog.Logger
	queue   workqueue.TypedDelayingInterface[mesh.Object]
	// over has the version of each Ingress over which Run wrote last.
	over map[mesh.Object]string

	mu        sync.Mutex
	leading   bool
	addresses []networkingv1.IngressLoadBalancerIngress
	// served has the Ingresses of which it was told, until they are gone.
	served map[mesh.Object]bool
}

// NewStatuses returns one that writes nothing yet. Manager is the name under which the API keeps what is written: another
// gateway's must be another. Current returns an Ingress as the informer has it, or nil.
func NewStatuses(client kubernetes.Interface, manager string, current func(mesh.Object) *networkingv1.Ingress, log *slog.Logger) *Statuses {
	return &Statuses{
		client: client, current: current, manager: manager, log: log,
		queue: workqueue.NewTypedDelayingQueue[mesh.Object](), over: map[mesh.Object]string{}, served: map[mesh.Object]bool{},
	}
}

// Served tells whether the gateway serves an Ingress. It does not block.
func (s *Statuses) Served(o mesh.Object, served bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served[o] = served
	s.queue.Add(o)
}

// Changed tells that the informer has an Ingress anew: what was decided before this replica saw its own last write is
// decided again. It does not block.
func (s *Statuses) Changed(o mesh.Object) {
	// Two controllers that both serve an Ingress would else write in turns for ever.
	if i := s.current(o); i == nil || len(shown(i)) == 0 || s.wrote(i) {
		s.queue.Add(o)
	}
}

// SetService tells of the gateway's Service; nil if there is none.
func (s *Statuses) SetService(service *corev1.Service) {
	addresses := addressesOf(service)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !reflect.DeepEqual(addresses, s.addresses) {
		s.addresses = addresses
		s.queueAll()
	}
}

// SetLeading lets the replica write, or keeps it from writing.
func (s *Statuses) SetLeading(leading bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leading = leading
	s.queueAll()
}

func (s *Statuses) queueAll() {
	for o := range s.served {
		s.queue.Add(o)
	}
}

// Run writes until ctx ends.
func (s *Statuses) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, s.queue.ShutDown)
	defer stop()
	for {
		o, closed := s.queue.Get()
		if closed {
			return nil
		}
		if err := s.write(ctx, o); err != nil && ctx.Err() == nil {
			s.log.Warn("status not written", "error", err)
			s.queue.AddAfter(o, retryStatus)
		}
		s.queue.Done(o)
	}
}

// write brings the status of an Ingress to what it should be.
func (s *Statuses) write(ctx context.Context, o mesh.Object) error {
	current := s.current(o)
	if current == nil {
		s.forget(o)
		return nil
	}
	if version, written := s.over[o]; written && version == current.ResourceVersion {
		return nil // Changed tells when the informer has what was written
	}
	s.mu.Lock()
	served, told := s.served[o]
	addresses, leading := s.addresses, s.leading
	s.mu.Unlock()
	switch {
	case !told || !leading:
		return nil
	case served && !slices.Equal(shown(current), texts(addresses)):
		return s.patch(ctx, o, addresses, current.ResourceVersion, false)
	case !served && len(shown(current)) > 0 && s.wrote(current):
		return s.patch(ctx, o, nil, current.ResourceVersion, true)
	}
	return nil
}

// forget ends what is known of an Ingress that is gone. One that is served has come again meanwhile.
func (s *Statuses) forget(o mesh.Object) {
	delete(s.over, o)
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.served[o] {
		delete(s.served, o)
	}
}

// patch replaces the addresses of an Ingress that had this version; if exactly, only when nobody else has written since.
func (s *Statuses) patch(ctx context.Context, o mesh.Object, addresses []networkingv1.IngressLoadBalancerIngress, version string, exactly bool) error {
	if addresses == nil {
		addresses = []networkingv1.IngressLoadBalancerIngress{} // an empty list is written, not left out
	}
	content := map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": addresses}}}
	if exactly {
		content["metadata"] = map[string]any{"resourceVersion": version}
	}
	patch, err := json.Marshal(content)
	if err != nil {
		return fmt.Errorf("status of %s: %w", o, err)
	}
	options := metav1.PatchOptions{FieldManager: s.manager}
	_, err = s.client.NetworkingV1().Ingresses(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, patch, options, "status")
	switch {
	case err == nil:
		s.over[o] = version
	case apierrors.IsNotFound(err), apierrors.IsConflict(err): // Changed tells what there is now
	default:
		return fmt.Errorf("status of %s: %w", o, err)
	}
	return nil
}

// wrote reports whether the addresses in a status are of this gateway's making, whichever replica wrote them, and when.
func (s *Statuses) wrote(i *networkingv1.Ingress) bool {
	return slices.ContainsFunc(i.ManagedFields, func(e metav1.ManagedFieldsEntry) bool {
		return e.Manager == s.manager && e.Subresource == "status"
	})
}

// shown is what kubectl get ingress shows as ADDRESS.
func shown(i *networkingv1.Ingress) []string { return texts(i.Status.LoadBalancer.Ingress) }

func texts(addresses []networkingv1.IngressLoadBalancerIngress) []string {
	var list []string
	for _, a := range addresses {
		list = append(list, cmp.Or(a.IP, a.Hostname))
	}
	return list
}

// addressesOf is where clients reach a Service from outside of the cluster, or else inside.
func addressesOf(s *corev1.Service) []networkingv1.IngressLoadBalancerIngress {
	if s == nil {
		return nil
	}
	var addresses []networkingv1.IngressLoadBalancerIngress
	for _, i := range s.Status.LoadBalancer.Ingress {
		addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: i.IP, Hostname: i.Hostname})
	}
	for _, ip := range s.Spec.ExternalIPs {
		addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: ip})
	}
	if len(addresses) == 0 && s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		for _, ip := range s.Spec.ClusterIPs {
			addresses = append(addresses, networkingv1.IngressLoadBalancerIngress{IP: ip})
		}
	}
	return addresses
}
