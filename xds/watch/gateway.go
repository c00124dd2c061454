package watch

import (
	"errors"
	"fmt"
	"slices"
	"time"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// GatewayConfig is what a Watcher needs to serve Ingresses.
type GatewayConfig struct {
	Model ingress.Config
	// Resources are made of the model, and published to gateways alone: Secrets are among them.
	Resources *envoy.Gateway
	Publisher Publisher
	// OnServed hears which Ingresses the gateway begins or ceases to serve. It must not block.
	OnServed func(o mesh.Object, served bool)
}

// FollowIngresses makes the informers tell of what a gateway serves, too. It is to be called before the Watcher runs. Of
// Secrets, only those of type kubernetes.io/tls are asked for. Changed, if any, hears of each Ingress that is there anew or
// gone, its status included, when [Source.Ingress] has it; it must not block.
func (s *Source) FollowIngresses(client kubernetes.Interface, changed func(mesh.Object)) error {
	tls := fields.OneTermEqualSelector("type", string(corev1.SecretTypeTLS)).String()
	secrets := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripSecret),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = tls }))
	ingresses := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(stripIngress))
	s.more = append(s.more, secrets, ingresses)
	return errors.Join(
		tellOf(ingress.Ingress, ingresses.Networking().V1().Ingresses().Informer(), changed),
		s.follow(ingress.Ingress, ingresses.Networking().V1().Ingresses().Informer(), func(m model, o any) {
			m.gateway.SetIngress(o.(*networkingv1.Ingress))
		}),
		s.follow(ingress.IngressClass, ingresses.Networking().V1().IngressClasses().Informer(), func(m model, o any) {
			m.gateway.SetClass(o.(*networkingv1.IngressClass))
		}),
		s.follow(ingress.Secret, secrets.Core().V1().Secrets().Informer(), func(m model, o any) {
			m.gateway.SetSecret(o.(*corev1.Secret))
		}),
	)
}

// tellOf tells which objects of a kind changed.
func tellOf(kind string, informer cache.SharedIndexInformer, changed func(mesh.Object)) error {
	if changed == nil {
		return nil
	}
	tell := func(o any) {
		if name, err := cache.DeletionHandlingObjectToName(o); err == nil {
			changed(mesh.Object{Kind: kind, Namespace: name.Namespace, Name: name.Name})
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: tell, UpdateFunc: func(_, o any) { tell(o) }, DeleteFunc: tell,
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	return nil
}

// Refused says that a gateway refused a version of a resource. If it is a certificate, the gateway gets the fallback in its
// place until the content of the Secret changes: Envoy would refuse a listener that has it, for all hosts. Of routes, which are the
// Secret's too, it goes on with those that it has.
func (s *Source) Refused(key envoy.Key, version string, owner mesh.Object) {
	if key.Type != resourcev3.SecretType {
		return
	}
	// The events of the Secret itself stay in the queue, and so does each version: another replica may refuse an older one later.
	s.queue.add(mesh.Object{Kind: "refused " + version, Namespace: owner.Namespace, Name: owner.Name}, func(m model) {
		if m.gateway != nil && m.resources.Holds(key, version) {
			m.gateway.RefuseSecret(owner)
		}
	})
}

// FollowService tells of one Service, whenever it changes; of nil when it is gone. It is to be called before the Watcher runs,
// which waits until the Service is told, if there is one.
func (s *Source) FollowService(client kubernetes.Interface, namespace, name string, tell func(*corev1.Service)) error {
	one := fields.OneTermEqualSelector("metadata.name", name).String()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = one }))
	s.more = append(s.more, factory)
	set := func(o any) {
		if service, ok := o.(*corev1.Service); ok && service.Name == name {
			tell(service)
		}
	}
	registration, err := factory.Core().V1().Services().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: set, UpdateFunc: func(_, o any) { set(o) }, DeleteFunc: func(any) { tell(nil) },
	})
	if err != nil {
		return fmt.Errorf("watch Service %s/%s: %w", namespace, name, err)
	}
	s.synced = append(s.synced, registration.HasSyncedChecker())
	return nil
}

// Ingress returns an Ingress as the API has it, or nil.
func (s *Source) Ingress(o mesh.Object) *networkingv1.Ingress {
	store := s.stores[ingress.Ingress]
	if store == nil {
		return nil
	}
	object, _, _ := store.GetByKey(cache.NewObjectName(o.Namespace, o.Name).String())
	i, _ := object.(*networkingv1.Ingress)
	return i
}

// stripSecret keeps the certificate and its key, or how large they are.
func stripSecret(object any) (any, error) {
	s, ok := object.(*corev1.Secret)
	if !ok {
		return object, nil // a tombstone
	}
	return &corev1.Secret{ObjectMeta: named(&s.ObjectMeta), Type: s.Type, Data: ingress.SecretData(s.Data)}, nil
}

// stripIngress keeps the specification, the annotations that are read, and whose the status is.
func stripIngress(object any) (any, error) {
	i, ok := object.(*networkingv1.Ingress)
	if !ok {
		return object, nil
	}
	kept := &networkingv1.Ingress{ObjectMeta: named(&i.ObjectMeta), Spec: i.Spec, Status: i.Status}
	for key, value := range i.Annotations {
		if label.IsIngressAnnotation(key) || key == ingress.ClassAnnotation {
			metav1.SetMetaDataAnnotation(&kept.ObjectMeta, key, value)
		}
	}
	for _, e := range i.ManagedFields {
		if e.Subresource == "status" {
			kept.ManagedFields = append(kept.ManagedFields, metav1.ManagedFieldsEntry{Manager: e.Manager, Subresource: e.Subresource})
		}
	}
	return kept, nil
}

func named(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, CreationTimestamp: m.CreationTimestamp,
	}
}

// A model is what events are told to.
type model struct {
	*mesh.Mesh
	// These are nil without a gateway.
	gateway   *ingress.Gateway
	resources *envoy.Gateway
}

// Delete removes an object of any kind.
func (m model) Delete(o mesh.Object) {
	switch o.Kind {
	case ingress.Ingress, ingress.IngressClass, ingress.Secret:
		m.gateway.Delete(o)
	default:
		m.Mesh.Delete(o)
	}
}

// problems are those of the last flush.
func (m model) problems(o mesh.Object) []label.Problem {
	switch {
	case m.gateway == nil:
		return m.Problems(o)
	case o.Kind == ingress.Ingress, o.Kind == ingress.Secret:
		return m.gateway.Problems(o)
	}
	return m.gateway.InForce(o, m.Problems(o))
}

// A change is what differs between two states of a model.
type change struct {
	mesh.Changes
	gateway ingress.Changes
}

func (m model) flush() change {
	c := change{Changes: m.Flush()}
	if m.gateway != nil {
		c.gateway = m.gateway.Flush(time.Now(), m.Mesh, c.Services)
	}
	return c
}

// countEvery is how often certificates that end soon are counted, while nothing happens.
const countEvery = time.Hour

// alarm fires when time alone changes what the gateway serves: a certificate expires.
func (w *Watcher) alarm() (fires <-chan time.Time, stop func() bool) {
	if w.model.gateway == nil {
		return nil, func() bool { return false }
	}
	next := w.model.gateway.Next()
	if next.IsZero() {
		return nil, func() bool { return false }
	}
	// A second later, so that it is past by any clock's grain; or when certificates are counted again that end soon.
	timer := time.NewTimer(min(time.Until(next)+time.Second, countEvery))
	return timer.C, timer.Stop
}

// translateGateway makes the gateway's update.
func (w *Watcher) translateGateway(c ingress.Changes) (update envoy.Update, concerned []mesh.Object) {
	if w.gateway == nil {
		return envoy.Update{}, nil
	}
	count := w.model.gateway.CountCertificates(time.Now())
	w.metrics.certificates.WithLabelValues("unusable").Set(float64(count.Unusable))
	w.metrics.certificates.WithLabelValues("expiring").Set(float64(count.Expiring))
	update, failures := w.gateway.Resources.Apply(c)
	for _, i := range c.Served {
		w.gateway.OnServed(i.Ingress, i.Served)
	}
	for _, p := range c.Problems {
		concerned = append(concerned, p.Object)
	}
	for _, b := range c.Backends { // with it, labels come into force, or cease to be
		if len(w.model.Problems(b.Key.Service)) > 0 {
			concerned = append(concerned, b.Key.Service)
		}
	}
	return update, append(concerned, w.keepFailures(failures)...)
}

// keepFailures stores what of the gateway cannot be translated, and returns whom what it says is news for.
func (w *Watcher) keepFailures(failures []envoy.GatewayFailure) (concerned []mesh.Object) {
	next := map[mesh.Object][]label.Problem{}
	for _, f := range failures {
		next[f.Object] = append(next[f.Object], label.Problem{
			Subject: label.Field, Key: "spec", Value: f.Key, Reason: f.Err.Error(), InForce: "what was before",
		})
	}
	for _, of := range []map[mesh.Object][]label.Problem{w.gatewayFailures, next} {
		for o := range of {
			if !slices.Equal(w.gatewayFailures[o], next[o]) {
				concerned = append(concerned, o)
			}
		}
	}
	w.gatewayFailures = next
	return concerned
}
