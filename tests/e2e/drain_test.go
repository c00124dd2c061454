package e2e

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// drained evicts all pods of the release, as a drain of their node does: of those with replicas one goes at a time, and those that
// run alone hold up nobody.
func drained(t *testing.T, s *site) {
	answers := map[string][]string{}
	for _, pod := range s.pods(t) {
		name := pod.Labels["app.kubernetes.io/name"]
		if name == "traffic-node" {
			continue // a drain leaves DaemonSets alone
		}
		err := s.client.PolicyV1().Evictions(release).Evict(t.Context(), &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: release}})
		switch {
		case err == nil:
			answers[name] = append(answers[name], "goes")
		case apierrors.IsTooManyRequests(err):
			answers[name] = append(answers[name], "waits")
		default:
			t.Fatal(err)
		}
	}
	one, alone := []string{"goes", "waits"}, []string{"goes"}
	want := map[string][]string{
		"traffic-control": one, "traffic-webhook": one, "traffic-ingress": one, "traffic-prometheus": alone, "traffic-zipkin": alone,
	}
	if diff := cmp.Diff(want, answers); diff != "" {
		t.Errorf("evictions, one after the other (-want +got):\n%s", diff)
	}
}
