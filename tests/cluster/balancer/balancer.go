// Package balancer is the cluster's load balancer controller: it gives every
// Service of type LoadBalancer an address of each of its IP families. The
// machine routes those addresses to the node, where kube-proxy answers them.
package balancer

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// Range holds the addresses to hand out, by family. The first address of each
// prefix is left out.
type Range struct {
	V4, V6 netip.Prefix
}

// Run keeps the addresses of all Services right until ctx ends.
func Run(ctx context.Context, client kubernetes.Interface, addresses Range) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	services := factory.Core().V1().Services()
	dirty := make(chan struct{}, 1)
	mark := func(any) {
		select {
		case dirty <- struct{}{}:
		default: // a pass over all Services is due already
		}
	}
	_, err := services.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: mark, UpdateFunc: func(_, now any) { mark(now) }, DeleteFunc: mark,
	})
	if err != nil {
		return fmt.Errorf("watch Services: %w", err)
	}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-dirty:
		}
		all, err := services.Lister().List(labels.Everything())
		if err != nil {
			return fmt.Errorf("list Services: %w", err)
		}
		for _, a := range Assign(all, addresses) {
			if err := apply(ctx, client, a); err != nil {
				slog.Error("cannot set load balancer addresses", "service", a.Service, "err", err)
				mark(nil)
			}
		}
	}
}

// Assignment is the load balancer status that a Service should have.
type Assignment struct {
	Service types.NamespacedName
	Ingress []corev1.LoadBalancerIngress
}

// Assign lists the Services whose status must change. Addresses in use stay;
// new ones are the lowest that are free.
func Assign(services []*corev1.Service, addresses Range) []Assignment {
	services = slices.Clone(services)
	slices.SortFunc(services, func(a, b *corev1.Service) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	used := map[netip.Addr]bool{}
	for _, s := range services {
		for _, in := range s.Status.LoadBalancer.Ingress {
			if addr, err := netip.ParseAddr(in.IP); err == nil && wanted(s) {
				used[addr] = true
			}
		}
	}
	var changes []Assignment
	for _, s := range services {
		ingress := ingressOf(s, addresses, used)
		if !slices.EqualFunc(ingress, s.Status.LoadBalancer.Ingress, func(a, b corev1.LoadBalancerIngress) bool { return a.IP == b.IP }) {
			changes = append(changes, Assignment{types.NamespacedName{Namespace: s.Namespace, Name: s.Name}, ingress})
		}
	}
	return changes
}

func wanted(s *corev1.Service) bool {
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && s.DeletionTimestamp == nil
}

// ingressOf is the status of s: the address it has in each family, or else a
// free one, which is marked used.
func ingressOf(s *corev1.Service, addresses Range, used map[netip.Addr]bool) []corev1.LoadBalancerIngress {
	if !wanted(s) {
		return nil
	}
	var ingress []corev1.LoadBalancerIngress
	for _, family := range s.Spec.IPFamilies {
		prefix := addresses.V4
		if family == corev1.IPv6Protocol {
			prefix = addresses.V6
		}
		addr, ok := current(s, prefix)
		if !ok {
			addr, ok = firstFree(prefix, used)
		}
		if ok {
			used[addr] = true
			ingress = append(ingress, corev1.LoadBalancerIngress{IP: addr.String()})
		}
	}
	return ingress
}

func current(s *corev1.Service, prefix netip.Prefix) (netip.Addr, bool) {
	for _, in := range s.Status.LoadBalancer.Ingress {
		if addr, err := netip.ParseAddr(in.IP); err == nil && prefix.Contains(addr) {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func firstFree(prefix netip.Prefix, used map[netip.Addr]bool) (netip.Addr, bool) {
	for addr := prefix.Addr().Next(); prefix.Contains(addr); addr = addr.Next() {
		if !used[addr] {
			return addr, true
		}
	}
	return netip.Addr{}, false
}

func apply(ctx context.Context, client kubernetes.Interface, a Assignment) error {
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"loadBalancer": map[string]any{"ingress": a.Ingress}}})
	if err != nil {
		return fmt.Errorf("encode the status: %w", err)
	}
	_, err = client.CoreV1().Services(a.Service.Namespace).Patch(ctx, a.Service.Name, types.MergePatchType, patch, metav1.PatchOptions{}, "status")
	if apierrors.IsNotFound(err) {
		return nil
	}
	slog.Info("set load balancer addresses", "service", a.Service, "ingress", a.Ingress)
	return err
}
