package mesh

import (
	"fmt"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// uninjected tells of a workload that is labelled for injection while its pods run without Envoy, and names the command
// that helps: the webhook sees what is written, so it missed what was written before it was there.
func (m *Mesh) uninjected(o Object, w *workload) []label.Problem {
	if w.settings.Enabled == nil || !*w.settings.Enabled {
		return nil
	}
	var bare, labelled bool
	for pod := range m.podsOfWorkload(o) {
		p := m.pods[pod]
		switch {
		case p.injected:
			return nil // the workload has rolled, or is rolling
		case !p.injectable:
		case p.settings.Enabled == nil:
			bare = true
		case *p.settings.Enabled:
			labelled = true
		}
	}
	name := strings.ToLower(o.Kind) + "/" + o.Name + " -n " + o.Namespace
	var command string
	switch {
	case bare && !w.template:
		command = fmt.Sprintf("kubectl label %[1]s %[2]s- && kubectl label %[1]s %[2]s=true", name, label.EnabledKey)
	case labelled:
		command = "kubectl rollout restart " + name
	default:
		return nil
	}
	return []label.Problem{{
		Key: label.EnabledKey, Value: w.labels[label.EnabledKey],
		Reason:  "it was set before Envoy could be injected; run: " + command,
		InForce: "pods without Envoy",
	}}
}
