package watch

import (
	"context"
	"errors"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// apiVersions are those of the kinds whose objects have labels.
var apiVersions = map[string]string{
	string(label.Service):     "v1",
	string(label.Pod):         "v1",
	string(label.Deployment):  "apps/v1",
	string(label.StatefulSet): "apps/v1",
	string(label.DaemonSet):   "apps/v1",
	string(label.Namespace):   "v1",
	string(label.Job):         "batch/v1",
	string(label.CronJob):     "batch/v1",
	ingress.Ingress:           "networking.k8s.io/v1",
	ingress.Secret:            "v1",
}

// A Source is the informers of everything that the mesh is told of. Its events are for one Watcher.
type Source struct {
	objects  informers.SharedInformerFactory
	metadata metadatainformer.SharedInformerFactory
	more     []informers.SharedInformerFactory // of a gateway
	stores   map[string]cache.Store            // by kind
	synced   []cache.DoneChecker
	queue    *queue
}

// NewSource prepares the informers.
func NewSource(client kubernetes.Interface, meta metadata.Interface) (*Source, error) {
	s := &Source{
		stores:   map[string]cache.Store{},
		queue:    newQueue(),
		objects:  informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(strip)),
		metadata: metadatainformer.NewSharedInformerFactoryWithOptions(meta, 0, metadatainformer.WithTransform(strip)),
	}
	core, apps := s.objects.Core().V1(), s.objects.Apps().V1()
	// Of ReplicaSets, of which there are many, only the metadata is asked for: they tell a pod's Deployment.
	replicaSets := s.metadata.ForResource(appsv1.SchemeGroupVersion.WithResource("replicasets"))
	inCore, inBatch := corev1.SchemeGroupVersion.WithResource, batchv1.SchemeGroupVersion.WithResource
	return s, errors.Join(
		s.followLabels(label.Namespace, inCore("namespaces")),
		s.followLabels(label.Job, inBatch("jobs")),
		s.followLabels(label.CronJob, inBatch("cronjobs")),
		s.follow(string(label.Service), core.Services().Informer(), func(m model, o any) {
			m.SetService(o.(*corev1.Service))
		}),
		s.follow(mesh.EndpointSlice, s.objects.Discovery().V1().EndpointSlices().Informer(), func(m model, o any) {
			m.SetEndpointSlice(o.(*discoveryv1.EndpointSlice))
		}),
		s.follow(string(label.Pod), core.Pods().Informer(), func(m model, o any) {
			m.SetPod(o.(*pod).whole())
		}),
		s.follow(string(label.Deployment), apps.Deployments().Informer(), func(m model, o any) {
			d := o.(*appsv1.Deployment)
			m.SetWorkload(string(label.Deployment), &d.ObjectMeta, d.Spec.Template.Labels)
		}),
		s.follow(string(label.StatefulSet), apps.StatefulSets().Informer(), func(m model, o any) {
			d := o.(*appsv1.StatefulSet)
			m.SetWorkload(string(label.StatefulSet), &d.ObjectMeta, d.Spec.Template.Labels)
		}),
		s.follow(string(label.DaemonSet), apps.DaemonSets().Informer(), func(m model, o any) {
			d := o.(*appsv1.DaemonSet)
			m.SetWorkload(string(label.DaemonSet), &d.ObjectMeta, d.Spec.Template.Labels)
		}),
		s.follow(mesh.ReplicaSet, replicaSets.Informer(), func(m model, o any) {
			m.SetWorkload(mesh.ReplicaSet, &o.(*metav1.PartialObjectMetadata).ObjectMeta, nil)
		}),
	)
}

// Reference names an object with its UID, by which kubectl describe finds its Events. The UID is empty if the object is
// gone.
func (s *Source) Reference(o mesh.Object) *corev1.ObjectReference {
	r := &corev1.ObjectReference{APIVersion: apiVersions[o.Kind], Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
	store := s.stores[o.Kind]
	if store == nil {
		return r
	}
	// The error is of an index, of which these stores have none.
	object, _, _ := store.GetByKey(cache.NewObjectName(o.Namespace, o.Name).String())
	if meta, ok := object.(metav1.Object); ok {
		r.UID, r.ResourceVersion = meta.GetUID(), meta.GetResourceVersion()
	}
	return r
}

// followLabels queues what the labels say of objects that only the webhook acts on: a wrong one is told here all the same.
func (s *Source) followLabels(kind label.Kind, resource schema.GroupVersionResource) error {
	return s.follow(string(kind), s.metadata.ForResource(resource).Informer(), func(m model, o any) {
		m.SetWorkload(string(kind), &o.(*metav1.PartialObjectMetadata).ObjectMeta, nil)
	})
}

// follow queues what an informer tells of objects of a kind.
func (s *Source) follow(kind string, informer cache.SharedIndexInformer, set func(model, any)) error {
	add := func(o any, e func(model, mesh.Object)) {
		// A deletion that the watch missed comes without its object.
		name, err := cache.DeletionHandlingObjectToName(o)
		if err != nil {
			return // what an informer gives has a name
		}
		object := mesh.Object{Kind: kind, Namespace: name.Namespace, Name: name.Name}
		s.queue.add(object, func(m model) { e(m, object) })
	}
	replace := func(o any) { add(o, func(m model, _ mesh.Object) { set(m, o) }) }
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    replace,
		UpdateFunc: func(_, o any) { replace(o) },
		DeleteFunc: func(o any) { add(o, model.Delete) },
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	s.stores[kind] = informer.GetStore()
	s.synced = append(s.synced, registration.HasSyncedChecker())
	return nil
}

// start runs the informers until ctx ends, and returns when each has queued all objects that there were. It is false
// if ctx ended first.
func (s *Source) start(ctx context.Context) bool {
	s.objects.StartWithContext(ctx)
	s.metadata.Start(ctx.Done())
	for _, factory := range s.more {
		factory.StartWithContext(ctx)
	}
	for _, synced := range s.synced {
		select {
		case <-ctx.Done():
			return false
		case <-synced.Done():
		}
	}
	return true
}

// stop waits for the informers, whose context has ended.
func (s *Source) stop() {
	s.objects.Shutdown()
	s.metadata.Shutdown()
	for _, factory := range s.more {
		factory.Shutdown()
	}
}
