package mesh

import "github.com/kubernetes-traffic-manager/traffic/xds/label"

// told returns the problems of an object's own labels, and tells if its requests are to be traced while nobody collects spans.
func (m *Mesh) told(l labelled) []label.Problem {
	if m.config.Collector {
		return l.problems
	}
	return l.settings.Untraced(l.labels, l.problems)
}
