package watch

import (
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// This file says what of an object an informer keeps. The mesh has what it needs of its own: here an object is stored to be
// found, and to be told apart from its next version.

// A pod is what an informer stores of one: there are many, and an empty Pod takes four times as much.
type pod struct {
	metav1.ObjectMeta
	hostNetwork bool
	os          *corev1.PodOS
	phase       corev1.PodPhase
	ips         []corev1.PodIP
}

func stripPod(p *corev1.Pod) *pod {
	return &pod{p.ObjectMeta, p.Spec.HostNetwork, p.Spec.OS, p.Status.Phase, p.Status.PodIPs}
}

// whole is a Pod with what is left of it.
func (p *pod) whole() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: p.ObjectMeta,
		Spec:       corev1.PodSpec{HostNetwork: p.hostNetwork, OS: p.os},
		Status:     corev1.PodStatus{Phase: p.phase, PodIPs: p.ips},
	}
}

// strip drops what the mesh does not read before an informer stores it: of a pod, that is nearly everything.
func strip(object any) (any, error) {
	meta, ok := object.(metav1.Object)
	if !ok {
		return object, nil // a tombstone
	}
	meta.SetManagedFields(nil)
	var kept map[string]string
	if value := meta.GetAnnotations()[label.ProxyAnnotation]; value != "" {
		kept = map[string]string{label.ProxyAnnotation: value}
	}
	meta.SetAnnotations(kept)
	meta.SetFinalizers(nil)
	meta.SetGenerateName("")
	meta.SetLabels(vocabulary(meta.GetLabels()))
	switch o := object.(type) {
	case *corev1.Pod:
		return stripPod(o), nil
	case *corev1.Service:
		o.Spec.Selector, o.Status.Conditions = nil, nil
	case *discoveryv1.EndpointSlice:
		for i := range o.Endpoints {
			stripEndpoint(&o.Endpoints[i])
		}
	case *appsv1.Deployment:
		o.Spec, o.Status = appsv1.DeploymentSpec{Template: labelsOf(o.Spec.Template)}, appsv1.DeploymentStatus{}
	case *appsv1.StatefulSet:
		o.Spec, o.Status = appsv1.StatefulSetSpec{Template: labelsOf(o.Spec.Template)}, appsv1.StatefulSetStatus{}
	case *appsv1.DaemonSet:
		o.Spec, o.Status = appsv1.DaemonSetSpec{Template: labelsOf(o.Spec.Template)}, appsv1.DaemonSetStatus{}
	}
	return object, nil
}

func stripEndpoint(e *discoveryv1.Endpoint) {
	var pod *corev1.ObjectReference
	if ref := e.TargetRef; ref != nil {
		pod = &corev1.ObjectReference{Kind: ref.Kind, Name: ref.Name}
	}
	*e = discoveryv1.Endpoint{Addresses: e.Addresses, Conditions: e.Conditions, TargetRef: pod}
}

// vocabulary leaves out labels that nothing here reads.
func vocabulary(labels map[string]string) map[string]string {
	var ours map[string]string
	for key, value := range labels {
		if strings.HasPrefix(key, label.Prefix) || key == discoveryv1.LabelServiceName {
			if ours == nil {
				ours = map[string]string{}
			}
			ours[key] = value
		}
	}
	return ours
}

func labelsOf(template corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: vocabulary(template.Labels)}}
}
