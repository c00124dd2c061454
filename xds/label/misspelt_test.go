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
