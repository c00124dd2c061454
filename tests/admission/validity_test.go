package admission_test

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"pgregory.net/rapid"
)

// What becomes of a pod that opts in.
const (
	neverValid = "never valid"
	refused    = "refused"
	letBe      = "let be"
	injected   = "injected"
)

// validPodsStayValid: whatever pod is valid stays so when it opts in, or is refused by a name that its author can change; and it is
// the same pod then, with our containers in front. The judge is the API server. -rapid.checks says how many are drawn.
func (c *cluster) validPodsStayValid(t *testing.T) {
	drawn := map[string]int{}
	rapid.Check(t, func(t *rapid.T) {
		p := drawPod(t)
		plain, invalid := c.dryRun(p)
		if invalid != nil {
			plain = nil
		}
		became, err := c.optIn(plain, p)
		if err != nil {
			t.Fatalf("%v\n%s", err, text(p))
		}
		drawn[became]++
	})
	t.Logf("%v", drawn)
	if drawn[injected] == 0 || drawn[neverValid] == 0 {
		t.Errorf("the pods that are drawn prove little: %v", drawn)
	}
}

// optIn labels a pod, and says what becomes of it: plain is what the API server makes of it without the label, nil if it is not
// valid. The error says what should not be.
func (c *cluster) optIn(plain, p *corev1.Pod) (became string, wrong error) {
	labelled := p.DeepCopy()
	labelled.Labels = map[string]string{"traffic.envoy.enabled": "true"}
	got, err := c.dryRun(labelled)
	switch {
	case err != nil && strings.Contains(err.Error(), "failed calling webhook"):
		return "", fmt.Errorf("the webhook has no answer: %w", err)
	case plain == nil:
		return neverValid, nil
	case err != nil && strings.Contains(err.Error(), "cannot inject Envoy: "):
		return refused, nil
	case err != nil:
		return "", fmt.Errorf("it was valid: %w", err)
	}
	rest, ours := apart(got)
	want := wanted(plain)
	if !slices.Equal(ours, want) {
		return "", fmt.Errorf("the containers in front are %q, want %q", ours, want)
	}
	before, _ := apart(plain)
	if diff := cmp.Diff(before, rest); diff != "" {
		return "", fmt.Errorf("the rest is not as it was:\n%s", diff)
	}
	if want == nil {
		return letBe, nil
	}
	return injected, nil
}

// wanted are the containers that are injected into a pod.
func wanted(p *corev1.Pod) []string {
	windows := p.Spec.NodeSelector["kubernetes.io/os"] == "windows"
	if p.Spec.OS != nil {
		windows = p.Spec.OS.Name == corev1.Windows
	}
	if p.Spec.HostNetwork || windows {
		return nil
	}
	return []string{"traffic-envoy", "traffic-verify"}
}

// dryRun returns the pod as it would be written.
func (c *cluster) dryRun(p *corev1.Pod) (*corev1.Pod, error) {
	return c.client.CoreV1().Pods("shop").Create(context.Background(), p, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
}

// tokenVolume is the API server's, with a name of chance.
var tokenVolume = regexp.MustCompile(`kube-api-access-[0-9a-z]{5}`)

// apart returns a pod without what is injected, and the injected containers that are in front of all others.
func apart(p *corev1.Pod) (rest corev1.PodSpec, front []string) {
	isOurs := func(name string) bool { return strings.HasPrefix(name, "traffic-") }
	for _, container := range p.Spec.InitContainers {
		if !isOurs(container.Name) {
			break
		}
		front = append(front, container.Name)
	}
	if err := json.Unmarshal(tokenVolume.ReplaceAll(text(p.Spec), []byte("kube-api-access")), &rest); err != nil {
		panic(err) // it came from JSON
	}
	rest.InitContainers = slices.DeleteFunc(rest.InitContainers, func(c corev1.Container) bool { return isOurs(c.Name) })
	rest.Volumes = slices.DeleteFunc(rest.Volumes, func(v corev1.Volume) bool { return isOurs(v.Name) })
	if len(rest.InitContainers) == 0 {
		rest.InitContainers = nil
	}
	if len(rest.Volumes) == 0 {
		rest.Volumes = nil
	}
	return rest, front
}

func text(v any) []byte {
	raw, err := json.Marshal(v)
	if err != nil {
		panic(err) // what is drawn can be sent
	}
	return raw
}
