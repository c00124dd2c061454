package mesh

import "github.com/kubernetes-traffic-manager/traffic/xds/label"

// uncollected tells of an object whose requests are to be traced while nobody collects spans.
func (m *Mesh) uncollected(l labelled) []label.Problem {
	if m.config.Collector {
		return nil
	}
	return l.settings.Untraced(l.labels)
}
