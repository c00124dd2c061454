package node

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// newPodInformer follows the pods of one node and keeps of each what the agent
// reads.
func newPodInformer(client kubernetes.Interface, nodeName string) cache.SharedIndexInformer {
	return informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTransform(trim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.FieldSelector = fields.OneTermEqualSelector("spec.nodeName", nodeName).String()
		}),
	).Core().V1().Pods().Informer()
}

func trim(obj any) (any, error) {
	pod, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	slim := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion},
		Status:     corev1.PodStatus{Phase: pod.Status.Phase, PodIP: pod.Status.PodIP},
	}
	if value, ok := pod.Annotations[redirect.Annotation]; ok {
		slim.Annotations = map[string]string{redirect.Annotation: value}
	}
	for _, c := range pod.Status.ContainerStatuses {
		slim.Status.ContainerStatuses = append(slim.Status.ContainerStatuses, corev1.ContainerStatus{ContainerID: c.ContainerID})
	}
	return slim, nil
}

// watchPods has the loop wake up when an injected pod changes, and once all pods
// are known.
func (a *Agent) watchPods() error {
	wake := func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Annotations[redirect.Annotation] != "" {
			a.poke()
		}
	}
	_, err := a.pods.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    wake,
		UpdateFunc: func(_, obj any) { wake(obj) },
	})
	if err != nil {
		return fmt.Errorf("watch pods: %w", err)
	}
	return nil
}

// awaitPods pokes the loop when the pods are listed.
func (a *Agent) awaitPods(ctx context.Context) {
	if cache.WaitForCacheSync(ctx.Done(), a.pods.HasSynced) {
		a.poke()
	}
}

// poke wakes the loop; it never blocks.
func (a *Agent) poke() {
	select {
	case a.wake <- struct{}{}:
	default:
	}
}

// nodePods is every pod of this node.
func (a *Agent) nodePods() []*corev1.Pod {
	var pods []*corev1.Pod
	for _, obj := range a.pods.GetStore().List() {
		if pod, ok := obj.(*corev1.Pod); ok {
			pods = append(pods, pod)
		}
	}
	return pods
}

// runtimeOf is the name of the container runtime that these pods run in, empty
// if none of them shows it.
func runtimeOf(pods []*corev1.Pod) string {
	for _, pod := range pods {
		for _, c := range pod.Status.ContainerStatuses {
			if name, _, ok := strings.Cut(c.ContainerID, "://"); ok {
				return name
			}
		}
	}
	return ""
}
