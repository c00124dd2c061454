package watch

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/tools/cache"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// workloads are the kinds of which only the metadata is watched.
var workloads = map[string]string{
	string(label.Deployment):  "deployments",
	string(label.StatefulSet): "statefulsets",
	string(label.DaemonSet):   "daemonsets",
	mesh.ReplicaSet:           "replicasets",
}

// A source is the informers of everything that the mesh is told of.
type source struct {
	objects  informers.SharedInformerFactory
	metadata metadatainformer.SharedInformerFactory
	synced   []cache.DoneChecker
}

// newSource prepares informers that put their events into the queue.
func newSource(client kubernetes.Interface, meta metadata.Interface, q *queue) (*source, error) {
	s := &source{
		objects:  informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTransform(strip)),
		metadata: metadatainformer.NewSharedInformerFactoryWithOptions(meta, 0, metadatainformer.WithTransform(strip)),
	}
	err := s.follow(q, string(label.Service), s.objects.Core().V1().Services().Informer(), func(o any) event {
		return func(m *mesh.Mesh) { m.SetService(o.(*corev1.Service)) }
	})
	if err != nil {
		return nil, err
	}
	err = s.follow(q, mesh.EndpointSlice, s.objects.Discovery().V1().EndpointSlices().Informer(), func(o any) event {
		return func(m *mesh.Mesh) { m.SetEndpointSlice(o.(*discoveryv1.EndpointSlice)) }
	})
	if err != nil {
		return nil, err
	}
	err = s.follow(q, string(label.Pod), s.objects.Core().V1().Pods().Informer(), func(o any) event {
		return func(m *mesh.Mesh) { m.SetPod(o.(*corev1.Pod)) }
	})
	if err != nil {
		return nil, err
	}
	for kind, resource := range workloads {
		informer := s.metadata.ForResource(workloadResource(resource)).Informer()
		err := s.follow(q, kind, informer, func(o any) event {
			return func(m *mesh.Mesh) { m.SetWorkload(kind, &o.(*metav1.PartialObjectMetadata).ObjectMeta) }
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// follow queues what an informer tells of objects of a kind.
func (s *source) follow(q *queue, kind string, informer cache.SharedIndexInformer, set func(any) event) error {
	registration, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(o any) { q.add(set(o)) },
		UpdateFunc: func(_, o any) { q.add(set(o)) },
		DeleteFunc: func(o any) {
			// A deletion that the watch missed comes without its object.
			name, err := cache.DeletionHandlingObjectToName(o)
			if err != nil {
				return // what an informer gives has a name
			}
			q.add(func(m *mesh.Mesh) { m.Delete(mesh.Object{Kind: kind, Namespace: name.Namespace, Name: name.Name}) })
		},
	})
	if err != nil {
		return fmt.Errorf("watch %s: %w", kind, err)
	}
	s.synced = append(s.synced, registration.HasSyncedChecker())
	return nil
}

// start runs the informers until ctx ends, and returns when each has queued all objects that there were. It is false
// if ctx ended first.
func (s *source) start(ctx context.Context) bool {
	s.objects.StartWithContext(ctx)
	s.metadata.Start(ctx.Done())
	return cache.WaitFor(ctx, "objects", s.synced...)
}

// stop waits for the informers, whose context has ended.
func (s *source) stop() {
	s.objects.Shutdown()
	s.metadata.Shutdown()
}

// strip drops what the mesh does not read before an informer stores it: of a pod, that is nearly everything.
func strip(object any) (any, error) {
	meta, ok := object.(metav1.Object)
	if !ok {
		return object, nil // a tombstone
	}
	meta.SetManagedFields(nil)
	kept := map[string]string{}
	for _, key := range []string{label.ProxyAnnotation, label.CopiedAnnotation} {
		if value := meta.GetAnnotations()[key]; value != "" {
			kept[key] = value
		}
	}
	meta.SetAnnotations(kept)
	if pod, ok := object.(*corev1.Pod); ok {
		pod.Spec = corev1.PodSpec{HostNetwork: pod.Spec.HostNetwork, OS: pod.Spec.OS}
		pod.Status = corev1.PodStatus{Phase: pod.Status.Phase}
	}
	return object, nil
}

func workloadResource(resource string) schema.GroupVersionResource {
	return appsv1.SchemeGroupVersion.WithResource(resource)
}
