package mesh

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// TestWhoLeavesNobody: whoever weighs the last endpoint of a Service with 0 is told on the object that was labelled, and no
// longer once it is over, whatever ended it.
func TestWhoLeavesNobody(t *testing.T) {
	deployment := Object{Kind: "Deployment", Namespace: "default", Name: "web"}
	pod := Object{Kind: "Pod", Namespace: "default", Name: "web-1"}
	weigh := func(m *Mesh, weight string) {
		m.SetWorkload("Deployment", ptr(meta("web", label.WeightKey, weight)), nil)
	}
	weighPod := func(m *Mesh, weight string) {
		m.SetPod(&corev1.Pod{ObjectMeta: controlledBy(meta("web-1", label.WeightKey, weight), ReplicaSet, "web-a")})
	}
	m := shop()
	m.Flush()
	for _, step := range []struct {
		name  string
		event func()
		told  map[Object]bool
	}{
		{"the workload is weighed", func() { weigh(m, "0") }, map[Object]bool{deployment: true}},
		{"its pod is as well", func() { weighPod(m, "0") }, map[Object]bool{deployment: false, pod: true}},
		{"the workload alone again", func() { weighPod(m, "") }, map[Object]bool{deployment: true, pod: false}},
		{"the Service goes", func() { m.Delete(Object{Kind: "Service", Namespace: "default", Name: "web"}) }, map[Object]bool{deployment: false}},
		{"it comes back", func() { m.SetService(webService("web", "10.96.0.1")) }, map[Object]bool{deployment: true}},
		{"direct, where weights do not count", func() {
			s := webService("web", "10.96.0.1")
			s.Labels["traffic.port.80"] = "direct"
			m.SetService(s)
		}, map[Object]bool{deployment: false}},
		{"http again", func() { m.SetService(webService("web", "10.96.0.1")) }, map[Object]bool{deployment: true}},
		{"the weight is another", func() { weigh(m, "1") }, map[Object]bool{deployment: false}},
	} {
		step.event()
		told := map[Object]bool{}
		for _, c := range m.Flush().Problems {
			if c.Object.Kind == "Service" {
				continue
			}
			told[c.Object] = len(c.Problems) > 0
			for _, p := range c.Problems {
				if want := `label traffic.endpoint.weight="0": every endpoint of Service default/web has weight 0; in force: ` + noAnswer; p.String() != want {
					t.Errorf("%s: %s is told %q, want %q", step.name, c.Object, p, want)
				}
			}
		}
		if diff := cmp.Diff(step.told, told); diff != "" {
			t.Errorf("%s: who is told of a problem, or of none any more (-want +got):\n%s", step.name, diff)
		}
	}
}
