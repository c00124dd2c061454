package mesh

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// uninjected tells of a workload that is labelled for injection while its pods run without Envoy, and names the command
// that helps, if one does: the webhook sees what is written, so it missed what was written before it was there.
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
	reason := m.withoutEnvoy(o, bare && !w.template, labelled)
	if reason == "" {
		return nil
	}
	return []label.Problem{{
		Key: label.EnabledKey, Value: w.labels[label.EnabledKey], Reason: reason, InForce: "pods without Envoy",
	}}
}

// withoutEnvoy says why a workload's pods have no Envoy, and what gives them one: bare pods and their template lack
// the label, labelled pods have it.
func (m *Mesh) withoutEnvoy(o Object, bare, labelled bool) string {
	name := strings.ToLower(o.Kind) + "/" + o.Name + " -n " + o.Namespace
	const late = "it was set before Envoy could be injected; run: "
	switch {
	case !bare && !labelled:
		return ""
	case slices.Contains(m.config.NeverInjected, o.Namespace):
		return label.NeverInjected(o.Namespace, "").Reason
	case bare && m.config.TemplatesOnly:
		return "it is not copied to pod templates in this cluster: set it in the labels of the pod template"
	case bare:
		return late + fmt.Sprintf("kubectl label %[1]s %[2]s- && kubectl label %[1]s %[2]s=true", name, label.EnabledKey)
	default:
		return late + "kubectl rollout restart " + name
	}
}
