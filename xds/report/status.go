package report

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
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

// Statuses writes the gateway's address into the Ingresses that it serves, and takes it out of those that it serves no more,
// while its replica leads. Others' Ingresses it never touches.
type Statuses struct {
	client  kubernetes.Interface
	current func(mesh.Object) *networkingv1.Ingress
	log     *slog.Logger
	queue   workqueue.TypedDelayingInterface[mesh.Object]

	mu        sync.Mutex
	leading   bool
	addresses []networkingv1.IngressLoadBalancerIngress
	// served has what is served, lost what was until now.
	served map[mesh.Object]struct{}
	lost   map[mesh.Object]struct{}
}

// NewStatuses returns one that writes nothing yet. Current returns an Ingress as it is, or nil.
func NewStatuses(client kubernetes.Interface, current func(mesh.Object) *networkingv1.Ingress, log *slog.Logger) *Statuses {
	return &Statuses{
		client: client, current: current, log: log, queue: workqueue.NewTypedDelayingQueue[mesh.Object](),
		served: map[mesh.Object]struct{}{}, lost: map[mesh.Object]struct{}{},
	}
}

// Served tells whether the gateway serves an Ingress. It does not block.
func (s *Statuses) Served(o mesh.Object, served bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if served {
		s.served[o] = struct{}{}
		delete(s.lost, o)
	} else {
		delete(s.served, o)
		s.lost[o] = struct{}{}
	}
	s.queue.Add(o)
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
	for _, objects := range []map[mesh.Object]struct{}{s.served, s.lost} {
		for o := range objects {
			s.queue.Add(o)
		}
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
	want, mine := s.want(o)
	current := s.current(o)
	if !mine {
		return nil
	}
	if current != nil && !reflect.DeepEqual(current.Status.LoadBalancer.Ingress, want) && len(want)+len(current.Status.LoadBalancer.Ingress) > 0 {
		// The list is replaced as a whole; an empty one is written, not left out.
		if want == nil {
			want = []networkingv1.IngressLoadBalancerIngress{}
		}
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": want}}})
		if err != nil {
			return fmt.Errorf("status of %s: %w", o, err)
		}
		_, err = s.client.NetworkingV1().Ingresses(o.Namespace).Patch(ctx, o.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
		if err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("status of %s: %w", o, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.lost, o)
	return nil
}

// want returns the addresses that an Ingress should have, if that is this replica's to say.
func (s *Statuses) want(o mesh.Object) (addresses []networkingv1.IngressLoadBalancerIngress, mine bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, served := s.served[o]; served {
		return s.addresses, s.leading
	}
	_, lost := s.lost[o]
	return nil, s.leading && lost
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
