package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

// TestOthersNeverReachTheWebhook creates 100 pods that did not opt in and one that did, and asks the API server itself
// how often it called one of our webhooks.
func TestOthersNeverReachTheWebhook(t *testing.T) {
	client := connect(t)
	namespace := createNamespace(t, client)
	before := webhookCalls(t, client)
	for i := range 100 {
		createPod(t, client, namespace, fmt.Sprintf("other-%d", i), nil)
	}
	if after := webhookCalls(t, client); after != before {
		t.Errorf("100 pods that did not opt in made %d calls of our webhooks", after-before)
	}
	createPod(t, client, namespace, "ours", map[string]string{"traffic.envoy.enabled": "true"})
	if got := webhookCalls(t, client) - before; got != 1 {
		t.Errorf("a pod that opted in made %d calls of our injecting webhooks, not one", got)
	}
}

// webhookCalls is the number of calls that the API server made to our webhooks that change pods.
func webhookCalls(t *testing.T, client kubernetes.Interface) int {
	t.Helper()
	calls := 0
	for _, metric := range apiMetrics(t, client)["apiserver_admission_webhook_request_total"].GetMetric() {
		labels := map[string]string{}
		for _, l := range metric.GetLabel() {
			labels[l.GetName()] = l.GetValue()
		}
		if strings.HasSuffix(labels["name"], "traffic.envoy.io") && labels["type"] == "admit" {
			calls += int(metric.GetCounter().GetValue())
		}
	}
	return calls
}

// apiMetrics is what the API server counts.
func apiMetrics(t *testing.T, client kubernetes.Interface) map[string]*dto.MetricFamily {
	t.Helper()
	text, err := client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func createPod(t *testing.T, client kubernetes.Interface, namespace, name string, labels map[string]string) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels},
		Spec: corev1.PodSpec{
			// Admission is what is looked at: no node runs these pods.
			NodeSelector: map[string]string{"traffic.test/nowhere": "true"},
			Containers:   []corev1.Container{{Name: "app", Image: "localhost:5000/curl"}},
		},
	}
	if _, err := client.CoreV1().Pods(namespace).Create(t.Context(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T) kubernetes.Interface {
	t.Helper()
	config, err := Config("../..")
	if err != nil {
		t.Fatal(err)
	}
	rest, err := clientcmd.BuildConfigFromFlags("", config.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	rest.QPS, rest.Burst = 200, 400
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func createNamespace(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	namespaces := client.CoreV1().Namespaces()
	created, err := namespaces.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := namespaces.Delete(context.WithoutCancel(t.Context()), created.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return created.Name
}
