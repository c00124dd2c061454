// Package bench measures on the local cluster what users wait for.
package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubernetes-traffic-manager/traffic/tests/e2e"
	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
)

// starts is how often each kind of pod is started in a round.
const starts = 5

// step is a moment in a pod's start, in the order in which they happen.
type step struct {
	name    string
	reached func(*corev1.Pod) bool
}

var steps = []step{
	{"scheduled", condition(corev1.PodScheduled)},
	{"Envoy started", initContainer("traffic-envoy", func(s corev1.ContainerStatus) bool { return s.Started != nil && *s.Started })},
	{"verified", initContainer("traffic-verify", func(s corev1.ContainerStatus) bool { return s.State.Terminated != nil })},
	{"initialized", condition(corev1.PodInitialized)},
	{"ready", condition(corev1.PodReady)},
}

// BenchmarkPodStart prints what injection adds to a pod's start, from the call that creates it to Ready; in each round, the
// medians of some starts, taken in turns so that both kinds meet the same noise.
func BenchmarkPodStart(b *testing.B) {
	f := figures.New()
	client := newClient(b)
	namespace := newNamespace(b, client)
	f.Goal("added ms", 2000)
	for b.Loop() {
		for round := range *figures.Rounds {
			times := map[bool]map[string][]time.Duration{false: {}, true: {}}
			for i := range starts {
				for _, injected := range []bool{false, true} {
					for name, took := range start(b, client, namespace, fmt.Sprintf("start-%d-%d-%t", round, i, injected), injected) {
						times[injected][name] = append(times[injected][name], took)
					}
				}
			}
			f.Add("added ms", median(times[true]["ready"])-median(times[false]["ready"]))
			for _, s := range steps {
				for _, kind := range []struct {
					name     string
					injected bool
				}{{"plain", false}, {"injected", true}} {
					if all := times[kind.injected][s.name]; len(all) > 0 {
						f.Add(fmt.Sprintf("%s: %s ms", kind.name, s.name), median(all))
					}
				}
			}
		}
	}
	f.Print(b)
}

// start creates a pod, waits until it is Ready and returns when each step was seen, from the creating call on.
func start(b *testing.B, client kubernetes.Interface, namespace, name string, injected bool) map[string]time.Duration {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	pods := client.CoreV1().Pods(namespace)
	watcher, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("metadata.name", name).String()})
	if err != nil {
		b.Fatal(err)
	}
	defer watcher.Stop()
	begin := time.Now()
	if _, err := pods.Create(ctx, pod(name, injected), metav1.CreateOptions{}); err != nil {
		b.Fatal(err)
	}
	seen := map[string]time.Duration{}
	for event := range watcher.ResultChan() {
		current, ok := event.Object.(*corev1.Pod)
		if !ok || event.Type == watch.Deleted {
			b.Fatalf("pod %s: unexpected event %s", name, event.Type)
		}
		for _, s := range steps {
			if _, done := seen[s.name]; !done && s.reached(current) {
				seen[s.name] = time.Since(begin)
			}
		}
		if seen["ready"] != 0 {
			now := int64(0)
			if err := pods.Delete(ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}); err != nil {
				b.Fatal(err)
			}
			return seen
		}
	}
	b.Fatalf("pod %s was not ready within a minute: %v", name, seen)
	return nil
}

func pod(name string, injected bool) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{
			TerminationGracePeriodSeconds: new(int64),
			Containers: []corev1.Container{{
				Name:    "app",
				Image:   "localhost:5000/curl",
				Command: []string{"sleep", "3600"},
			}},
		},
	}
	if injected {
		p.Labels = map[string]string{"traffic.envoy.enabled": "true"}
	}
	return p
}

func condition(kind corev1.PodConditionType) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == kind && c.Status == corev1.ConditionTrue
		})
	}
}

func initContainer(name string, reached func(corev1.ContainerStatus) bool) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.InitContainerStatuses, func(s corev1.ContainerStatus) bool {
			return s.Name == name && reached(s)
		})
	}
}

// median is in milliseconds.
func median(all []time.Duration) float64 { return figures.Milliseconds(figures.Percentile(all, 50)) }

// kubeconfig is the file of the local cluster's administrator.
func kubeconfig(b *testing.B) string {
	b.Helper()
	local, err := e2e.Cluster("../..")
	if err != nil {
		b.Fatal(err)
	}
	return local.Kubeconfig()
}

func newClient(b *testing.B) kubernetes.Interface {
	b.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig(b))
	if err != nil {
		b.Fatal(err)
	}
	config.QPS, config.Burst = 1000, 2000
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		b.Fatal(err)
	}
	return client
}

func newNamespace(b *testing.B, client kubernetes.Interface) string {
	namespaces := client.CoreV1().Namespaces()
	created, err := namespaces.Create(b.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "bench-"}}, metav1.CreateOptions{})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := namespaces.Delete(context.WithoutCancel(b.Context()), created.Name, metav1.DeleteOptions{}); err != nil {
			b.Error(err)
		}
	})
	return created.Name
}
