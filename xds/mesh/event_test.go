package mesh

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

func ptr[T any](v T) *T { return &v }

// controlledBy makes a workload the controller of what has the metadata.
func controlledBy(meta metav1.ObjectMeta, kind, name string) metav1.ObjectMeta {
	meta.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, Controller: ptr(true)}}
	return meta
}

func meta(name string, labels ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "default", Name: name}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(&m, labels[i], labels[i+1])
	}
	return m
}

// shop is a Service "web", port 80, with one pod of a Deployment "web", and a Service "db" with a pod of its own.
func shop() *Mesh {
	m := New(Config{})
	for name, ip := range map[string]string{"web": "10.96.0.1", "db": "10.96.0.2"} {
		m.SetService(webService(name, ip))
		m.SetEndpointSlice(webSlice(name))
		m.SetPod(&corev1.Pod{ObjectMeta: controlledBy(meta(name+"-1"), ReplicaSet, name+"-a")})
		m.SetWorkload(ReplicaSet, ptr(controlledBy(meta(name+"-a"), string(label.Deployment), name)), nil)
		m.SetWorkload(string(label.Deployment), ptr(meta(name)), nil)
	}
	return m
}

func webService(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name, "traffic.port.80", "http"), Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80}},
	}}
}

func webSlice(service string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  meta(service+"-abc", discoveryv1.LabelServiceName, service),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: ptr(int32(8080))}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: service + "-1"},
		}},
	}
}

// TestEventConcernsItsKeys counts what an event makes the mesh compute: a label edit must cost the same in a cluster of
// two Services and in one of ten thousand.
func TestEventConcernsItsKeys(t *testing.T) {
	tests := []struct {
		name  string
		event func(*Mesh)
		want  []string
	}{
		{
			name:  "a Deployment's weight concerns its pods' Services",
			event: func(m *Mesh) { m.SetWorkload("Deployment", ptr(meta("web", label.WeightKey, "10")), nil) },
			want:  []string{"Deployment default/web", "Service default/web"},
		},
		{
			name: "a pod's weight concerns its Services and its workload",
			event: func(m *Mesh) {
				m.SetPod(&corev1.Pod{ObjectMeta: controlledBy(meta("web-1", label.WeightKey, "10"), ReplicaSet, "web-a")})
			},
			want: []string{"Deployment default/web", "Pod default/web-1", "Service default/web"},
		},
		{
			name:  "a Service's label concerns the Service",
			event: func(m *Mesh) { m.SetService(webService("web", "10.96.0.7")) },
			want:  []string{"Service default/web"},
		},
		{
			name:  "an address that passes to another Service concerns both",
			event: func(m *Mesh) { m.SetService(webService("web", "10.96.0.2")) },
			want:  []string{"Service default/db", "Service default/web"},
		},
		{
			name:  "an EndpointSlice concerns its Service",
			event: func(m *Mesh) { m.Delete(Object{Kind: EndpointSlice, Namespace: "default", Name: "web-abc"}) },
			want:  []string{"Service default/web"},
		},
		{
			name: "what others write into objects concerns nobody",
			event: func(m *Mesh) {
				noise := metav1.ObjectMeta{
					ResourceVersion: "7", Generation: 7, Annotations: map[string]string{"endpoints.kubernetes.io/last-change-trigger-time": "now"},
					ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "kubelet", Time: ptr(metav1.NewTime(time.Now()))}},
				}
				service, slice := webService("web", "10.96.0.1"), webSlice("web")
				pod := &corev1.Pod{ObjectMeta: controlledBy(meta("web-1"), ReplicaSet, "web-a")}
				deployment := meta("web")
				for _, o := range []*metav1.ObjectMeta{&service.ObjectMeta, &slice.ObjectMeta, &pod.ObjectMeta, &deployment} {
					o.ResourceVersion, o.Generation, o.Annotations, o.ManagedFields = noise.ResourceVersion, noise.Generation, noise.Annotations, noise.ManagedFields
				}
				pod.Status.Conditions = []corev1.PodCondition{{Type: "Ready", LastProbeTime: metav1.NewTime(time.Now())}}
				service.Status.Conditions = []metav1.Condition{{Type: "Programmed"}}
				m.SetService(service)
				m.SetEndpointSlice(slice)
				m.SetPod(pod)
				m.SetWorkload("Deployment", &deployment, nil)
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := shop()
			m.Flush()
			test.event(m)
			m.claim()
			var got []string
			for _, o := range slices.SortedFunc(maps.Keys(m.dirty), Object.Compare) {
				got = append(got, o.String())
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("computed (-want +got):\n%s", diff)
			}
		})
	}
}

// TestLabelChanges reads what the log will say of who changed what.
func TestLabelChanges(t *testing.T) {
	m := shop()
	m.Flush()
	deployment := Object{Kind: "Deployment", Namespace: "default", Name: "web"}
	service := Object{Kind: "Service", Namespace: "default", Name: "web"}

	steps := []struct {
		name  string
		event func()
		want  []LabelChange
	}{
		{
			name:  "set",
			event: func() { m.SetWorkload("Deployment", ptr(meta("web", label.WeightKey, "10", "app", "web")), nil) },
			want:  []LabelChange{{Object: deployment, Key: label.WeightKey, New: "10"}},
		},
		{
			name: "changed, and one that is the webhook's affair",
			event: func() {
				m.SetWorkload("Deployment", ptr(meta("web", label.WeightKey, "x", label.EnabledKey, "true")), nil)
			},
			want: []LabelChange{{Object: deployment, Key: label.WeightKey, Old: "10", New: "x"}},
		},
		{
			name:  "gone with its object",
			event: func() { m.Delete(service) },
			want:  []LabelChange{{Object: service, Key: "traffic.port.80", Old: "http"}},
		},
		{
			name:  "back with its object",
			event: func() { m.SetService(webService("web", "10.96.0.1")) },
			want:  []LabelChange{{Object: service, Key: "traffic.port.80", New: "http"}},
		},
		{
			name: "born with a pod",
			event: func() {
				m.SetPod(&corev1.Pod{ObjectMeta: meta("web-2", label.WeightKey, "1")})
			},
		},
		{
			name: "set on a pod",
			event: func() {
				m.SetPod(&corev1.Pod{ObjectMeta: meta("web-2", label.WeightKey, "2")})
			},
			want: []LabelChange{{Object: Object{Kind: "Pod", Namespace: "default", Name: "web-2"}, Key: label.WeightKey, Old: "1", New: "2"}},
		},
	}
	for _, step := range steps {
		step.event()
		if diff := cmp.Diff(step.want, m.Flush().Labels); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.name, diff)
		}
	}
}

// TestUninjected reads the command that a user gets whose workload was labelled before the webhook was there.
func TestUninjected(t *testing.T) {
	const (
		relabel = "it was set before Envoy could be injected; run: kubectl label deployment/web -n default traffic.envoy.enabled- && " +
			"kubectl label deployment/web -n default traffic.envoy.enabled=true"
		restart = "it was set before Envoy could be injected; run: kubectl rollout restart deployment/web -n default"
	)
	injected := map[string]string{label.ProxyAnnotation: "v1"}
	tests := []struct {
		name   string
		config Config
		change func(deployment *appsv1.Deployment, pod *corev1.Pod)
		want   string
	}{
		{
			name: "labels are not copied, so the one on the workload does nothing", config: Config{TemplatesOnly: true},
			change: func(*appsv1.Deployment, *corev1.Pod) {},
			want:   "it is not copied to pod templates in this cluster: set it in the labels of the pod template",
		},
		{
			name: "labels are not copied, the template has its own", want: restart, config: Config{TemplatesOnly: true},
			change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.Labels = map[string]string{label.EnabledKey: "true"} },
		},
		{
			name: "a namespace of the system", config: Config{NeverInjected: []string{"kube-system", "default"}},
			change: func(*appsv1.Deployment, *corev1.Pod) {}, want: "pods of namespace default are never injected",
		},
		{
			name: "a namespace of the system, the template has the label", config: Config{NeverInjected: []string{"default"}, TemplatesOnly: true},
			change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.Labels = map[string]string{label.EnabledKey: "true"} },
			want:   "pods of namespace default are never injected",
		},
		{name: "labelled, and neither template nor pods know", want: relabel, change: func(*appsv1.Deployment, *corev1.Pod) {}},
		{name: "the template has the label, its pods are older than the webhook", want: restart, change: func(_ *appsv1.Deployment, p *corev1.Pod) {
			p.Labels = map[string]string{label.EnabledKey: "true"}
		}},
		{name: "the template has the label, and the workload rolls", change: func(d *appsv1.Deployment, _ *corev1.Pod) {
			d.Spec.Template.Labels = map[string]string{label.EnabledKey: "true"}
		}},
		{name: "injected", change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.Annotations = injected }},
		{name: "the pod opted out", change: func(_ *appsv1.Deployment, p *corev1.Pod) {
			p.Labels = map[string]string{label.EnabledKey: "false"}
		}},
		{name: "host network", change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.Spec.HostNetwork = true }},
		{name: "Windows", change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }},
		{name: "finished", change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }},
		{name: "terminating", change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} }},
		{name: "the workload opts out", change: func(d *appsv1.Deployment, _ *corev1.Pod) { d.Labels[label.EnabledKey] = "false" }},
		{name: "no pods", change: func(_ *appsv1.Deployment, p *corev1.Pod) { p.OwnerReferences = nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			m := shop()
			m.config = test.config
			deployment := &appsv1.Deployment{ObjectMeta: meta("web", label.EnabledKey, "true")}
			pod := &corev1.Pod{ObjectMeta: controlledBy(meta("web-1"), ReplicaSet, "web-a")}
			test.change(deployment, pod)
			m.SetPod(pod)
			m.SetWorkload("Deployment", &deployment.ObjectMeta, deployment.Spec.Template.Labels)
			var got string
			for _, c := range m.Flush().Problems {
				for _, p := range c.Problems {
					got += p.Reason
				}
			}
			if got != test.want {
				t.Errorf("told %q, want %q", got, test.want)
			}
		})
	}
}
