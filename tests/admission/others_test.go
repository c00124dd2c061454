package admission_test

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// sidecarsOfOthers: whatever native sidecars and init containers a pod has, in whatever order, ours are in front and theirs stay as
// they were; so it is for a pod with an Envoy of its own, and for one with 2,000 variables.
func (c *cluster) sidecarsOfOthers(t *testing.T) {
	base := func() *corev1.Pod {
		return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "drawn"}, Spec: *spec.DeepCopy()}
	}
	pods := map[string]*corev1.Pod{"an Envoy of its own": base(), "2,000 variables": base()}
	pods["an Envoy of its own"].Spec.Containers = append(pods["an Envoy of its own"].Spec.Containers, corev1.Container{
		Name: "envoy", Image: "envoy", Command: []string{"envoy"}, Ports: []corev1.ContainerPort{{ContainerPort: 9901}, {ContainerPort: 10001}},
	})
	for n := range 2000 {
		app := &pods["2,000 variables"].Spec.Containers[0]
		app.Env = append(app.Env, corev1.EnvVar{Name: fmt.Sprintf("NAME_%d", n), Value: "value"})
	}
	for count := range 4 {
		for sidecars := range 1 << count {
			p := base()
			for n := range count {
				other := corev1.Container{Name: fmt.Sprintf("other-%d", n), Image: "other"}
				if sidecars>>n&1 == 1 {
					other.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
				}
				p.Spec.InitContainers = append(p.Spec.InitContainers, other)
			}
			pods[fmt.Sprintf("%d init containers, sidecars %03b", count, sidecars)] = p
		}
	}
	for name, p := range pods {
		before, err := c.dryRun(p)
		if err != nil {
			t.Fatal(err)
		}
		if became, err := c.optIn(before, p); err != nil || became != injected {
			t.Errorf("%s: %s, %v", name, became, err)
		}
	}
}

// anotherWebhook: what is put in front of our containers after we were called is behind them in the end, and everybody has each
// container once.
func (c *cluster) anotherWebhook(t *testing.T) {
	const ops = `[{"op":"add","path":"/spec/initContainers/0","value":{"name":"mesh","image":"mesh","restartPolicy":"Always"}},
		{"op":"add","path":"/spec/containers/0","value":{"name":"agent","image":"agent"}}]`
	var calls atomic.Int32
	other := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		calls.Add(1)
		review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
		if !strings.Contains(string(review.Request.Object.Raw), `"mesh"`) {
			review.Response.Patch, review.Response.PatchType = []byte(ops), new(admissionv1.PatchTypeJSONPatch)
		}
		review.Request = nil
		_ = json.NewEncoder(w).Encode(review) // the API server has gone
	}))
	t.Cleanup(other.Close)
	// The API server calls configurations in the order of their names.
	const name = "zz-another"
	configurations := c.client.AdmissionregistrationV1().MutatingWebhookConfigurations()
	c.must(t)(configurations.Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: "another.example.com", FailurePolicy: new(admissionregistrationv1.Fail), AdmissionReviewVersions: []string{"v1"},
			SideEffects:        new(admissionregistrationv1.SideEffectClassNone),
			ReinvocationPolicy: new(admissionregistrationv1.IfNeededReinvocationPolicy),
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				URL: &other.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: other.Certificate().Raw}),
			},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			ObjectSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"other": "yes"}},
		}},
	}, metav1.CreateOptions{}))
	labels := map[string]string{"traffic.envoy.enabled": "true", "other": "yes"}
	var created *corev1.Pod
	eventually(t, "the API server calls the other webhook", func(context.Context) error {
		calls.Store(0)
		c.calls.take()
		var err error
		created, err = c.dryRun(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "both", Labels: labels}, Spec: *spec.DeepCopy()})
		if err == nil && calls.Load() == 0 {
			err = errors.New("not yet")
		}
		return err
	})
	names := func(containers []corev1.Container) (names []string) {
		for _, container := range containers {
			names = append(names, container.Name)
		}
		return names
	}
	if got, want := names(created.Spec.InitContainers), []string{"traffic-envoy", "traffic-verify", "mesh"}; !slices.Equal(got, want) {
		t.Errorf("init containers %q, want %q", got, want)
	}
	if got, want := names(created.Spec.Containers), []string{"agent", "app"}; !slices.Equal(got, want) {
		t.Errorf("containers %q, want %q", got, want)
	}
	if got, want := c.calls.take(), []string{in, in, warn}; !slices.Equal(got, want) {
		t.Errorf("the API server called %q, want %q: ours again after the other", got, want)
	}
	if err := configurations.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}
