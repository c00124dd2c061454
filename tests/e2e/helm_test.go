package e2e

import (
	"strings"
	"testing"
)

// helmTest runs what the documentation has a user run after an installation. It must not succeed where pods are not injected.
func helmTest(t *testing.T, s *site) {
	hook := s.helm(t, "get", "hooks", "traffic", "-n", release)
	without := strings.NewReplacer(
		`traffic.envoy.enabled: "true"`, `traffic.envoy.enabled: "false"`,
		"name: traffic-test\n  namespace: default", "name: not-injected\n  namespace: default",
		"activeDeadlineSeconds: 120", "activeDeadlineSeconds: 3",
	).Replace(hook)
	s.apply(t, without)
	if out := s.helm(t, "test", "traffic", "-n", release); !strings.Contains(out, "Succeeded") {
		t.Errorf("helm test prints\n%s", out)
	}
	const reached = "outbound connections of traffic-test.default reach its Envoy"
	if log := s.kubectl(t, "logs", "-n", "default", "traffic-test"); !strings.Contains(log, reached) {
		t.Errorf("the test's pod says %s", log)
	}
	s.kubectl(t, "wait", "-n", "default", "pod/not-injected", "--for=jsonpath={.status.phase}=Failed", "--timeout=30s")
	s.kubectl(t, "delete", "pod", "-n", "default", "not-injected", "traffic-test", "--wait=false")
}
