package bootstrap_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// TestTokenIsMeantForTheControlPlane: the audience is written down on both sides, and a token that is meant for another is
// refused, so that no pod would get its configuration.
func TestTokenIsMeantForTheControlPlane(t *testing.T) {
	ca, _ := certificates(t)
	var audiences []string
	for _, volume := range injected.Pod(t, "shop", "web-0", injected.Config(1, ca)).Spec.Volumes {
		if volume.Projected == nil {
			continue
		}
		for _, source := range volume.Projected.Sources {
			if source.ServiceAccountToken != nil {
				audiences = append(audiences, source.ServiceAccountToken.Audience)
			}
		}
	}
	if len(audiences) != 1 || audiences[0] != serve.Audience {
		t.Errorf("the pod's tokens are meant for %q, the control plane takes those for %q", audiences, serve.Audience)
	}
}

// TestTokenRotation: the kubelet renews the token by swapping the volume's folder; from then on a new stream carries the new
// one, however often that happens.
func TestTokenRotation(t *testing.T) {
	s := newSandbox(t)
	c := newControl(t, s, nil).open()
	pod := injected.Pod(t, "shop", "web-0", injected.Config(c.port, c.ca))
	folder := volumes(t, pod, "token-0")
	s.run(t, pod, folder).ready(t)
	if got := receive(t, c.tokens); got != "Bearer token-0" {
		t.Fatalf("authorization %q, want the token", got)
	}
	for i := 1; i <= 4; i++ {
		before, want := fmt.Sprintf("Bearer token-%d", i-1), fmt.Sprintf("Bearer token-%d", i)
		project(t, pod, folder, fmt.Sprintf("token-%d", i))
		for deadline := time.Now().Add(patience); ; {
			c.hangUp <- struct{}{}
			got := receive(t, c.tokens)
			if got == want {
				break
			}
			if got != before || time.Now().After(deadline) {
				t.Fatalf("authorization %q, want %q soon after the rotation", got, want)
			}
		}
	}
}
