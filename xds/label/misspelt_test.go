package label

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestMisspelt: a slip in the prefix is told with the key that was meant; labels of others are not ours to judge.
func TestMisspelt(t *testing.T) {
	for key, near := range map[string]string{
		"trafic.port.80": "traffic.port.80", "Traffic.port.80": "traffic.port.80", "TRAFFIC.port.80": "traffic.port.80",
		"traffik.endpoint.weight": WeightKey, "trafffic.lb.policy": PolicyKey, "taffic.envoy.enabled": EnabledKey,
		"traffi.tracing.enable": TracingKey,
	} {
		want := []Problem{{Key: key, Value: "x", Reason: "no such label, did you mean " + near + "?", InForce: "nothing"}}
		if diff := cmp.Diff(want, Misspelt(map[string]string{key: "x", "app": "web"})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
	others := map[string]string{
		"traefik.port.80": "x", "trafic.example.com/port.80": "x", "traf": "x", "trafic": "x", "trafalgar.port.80": "x",
		"trafic.jam": "x", "trafic.port.80": "", "traffic.port.80": "http",
	}
	if got := Misspelt(others); got != nil {
		t.Errorf("of others: %v", got)
	}
}

// TestMisspeltIngress: an annotation that is nearly ours is told with what was meant; those of others are not ours to judge.
func TestMisspeltIngress(t *testing.T) {
	for key, reason := range map[string]string{
		"trafic.ingress/ssl-redirect": "no such annotation, did you mean traffic.ingress/ssl-redirect?",
		"traffic.ingres/ssl-redirect": "no such annotation, did you mean traffic.ingress/ssl-redirect?",
		"Traffic.Ingress/body":        "", // of which nobody knows what was meant
		"traffic.ingress.ssl-redirct": "no such annotation, did you mean traffic.ingress/ssl-redirect?",
		"traffic.ssl-redirect":        "no such annotation, did you mean traffic.ingress/ssl-redirect?",
		PolicyKey:                     "this is no annotation, but a label of Service",
		"traffic.port.80":             "this is no annotation, but a label of Service and Pod",

		"traefik.ingress.kubernetes.io/router.tls": "", "trafic.example.com/ssl-redirect": "", "nginx.ingress.kubernetes.io/ssl-redirect": "",
		RedirectKey: "", // ParseIngress judges it
	} {
		var want []Problem
		if reason != "" {
			want = []Problem{{Subject: Annotation, Key: key, Value: "x", Reason: reason, InForce: "nothing"}}
		}
		if diff := cmp.Diff(want, MisspeltIngress(map[string]string{key: "x", "app": "web"})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", key, diff)
		}
	}
}
