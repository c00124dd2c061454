package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/tests/later"
)

// twoReleases has parts of this release and of the next on the node, in either order, while pods start. The next one's webhook
// writes a redirect spec that this one's plugin does not know.
func twoReleases(t *testing.T, s *site) {
	this, next := imagesIn(t, s.images), imagesIn(t, s.laterImages(t))
	if this["trafficNode"] == next["trafficNode"] || this["trafficWebhook"] == next["trafficWebhook"] {
		t.Fatalf("the next release has the same images: %v", next)
	}
	var pods []string
	start := func(name string) {
		s.startPods(t, name)
		pods = append(pods, name+"-in", name+"-out")
	}
	// The node goes first, back, and on again: what this webhook writes is understood by both.
	for i, images := range []map[string]string{next, this, next} {
		s.roll(t, "daemonset/traffic-node", images["trafficNode"], func() {
			for j := range 4 {
				start(fmt.Sprintf("node-%d-%d", i, j))
			}
		})
	}
	s.ready(t, nil, pods...)
	s.roll(t, "deployment/traffic-webhook", next["trafficWebhook"], func() {})
	start("both-later")
	s.ready(t, nil, "both-later-in", "both-later-out")
	if spec := s.kubectl(t, "get", "pod", "-n", "shop", "both-later-in", "-o", `jsonpath={.metadata.annotations.traffic\.envoy\.redirect}`); !strings.Contains(spec, `"version":2`) {
		t.Fatalf("the next webhook writes %s", spec)
	}
	// The node is behind: what it does not understand waits, with the reason, and what runs goes on.
	s.roll(t, "daemonset/traffic-node", this["trafficNode"], func() {})
	start("behind")
	s.ready(t, nil, "behind-out")
	eventually(t, "refused", func() string {
		events := s.kubectl(t, "get", "events", "-n", "shop", "--field-selector=involvedObject.name=behind-in,reason=FailedCreatePodSandBox", "-o", "jsonpath={.items[*].message}")
		if strings.Contains(events, "the webhook and the CNI plugin must be of one release") {
			return "refused"
		}
		return events
	})
	s.managed(t, "both-later-in")
	s.roll(t, "daemonset/traffic-node", next["trafficNode"], func() {})
	s.ready(t, nil, pods...)
	for _, pod := range pods {
		if strings.HasSuffix(pod, "-in") {
			s.managed(t, pod)
		}
	}
	s.roll(t, "deployment/traffic-webhook", this["trafficWebhook"], func() {})
	s.roll(t, "daemonset/traffic-node", this["trafficNode"], func() {})
	s.kubectl(t, append([]string{"delete", "pod", "-n", "shop", "--wait=false"}, pods...)...)
}

// roll gives a workload another image; meanwhile happens while that is going on. No pod with the image before is left: one that
// ends may still answer.
func (s *site) roll(t *testing.T, workload, image string, meanwhile func()) {
	t.Helper()
	_, container, _ := strings.Cut(workload, "/")
	s.kubectl(t, "set", "image", "-n", release, workload, container+"="+image)
	meanwhile()
	s.kubectl(t, "rollout", "status", "-n", release, workload, "--timeout=180s")
	eventually(t, image, func() string {
		images := strings.Fields(s.kubectl(t, "get", "pod", "-n", release, "-l", "app.kubernetes.io/name="+container, "-o", "jsonpath={.items[*].spec.containers[*].image}"))
		slices.Sort(images)
		return strings.Join(slices.Compact(images), " ")
	})
}

// laterImages pushes the images of the next release and returns a values file that names them.
func (s *site) laterImages(t *testing.T) string {
	t.Helper()
	source := t.TempDir()
	if err := later.Source("../..", source); err != nil {
		t.Fatal(err)
	}
	return s.pushImages(t, "../..", "-root", source, "traffic-node", "traffic-webhook")
}

// imagesIn are the images that a values file names.
func imagesIn(t *testing.T, file string) map[string]string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var values struct {
		Images map[string]string `json:"images"`
	}
	if err := yaml.Unmarshal(text, &values); err != nil {
		t.Fatal(err)
	}
	return values.Images
}
