package mesh

import "github.com/kubernetes-traffic-manager/traffic/xds/label"

// uncollected tells of an object whose requests are to be traced while nobody collects spans.
func (m *Mesh) uncollected(l labelled) []label.Problem {
	if m.config.Collector || !l.settings.Tracing.Enabled {
		return nil
	}
	return []label.Problem{{
		Key: label.TracingKey, Value: l.labels[label.TracingKey],
		Reason:  "no collector is configured: set tracing.address in the chart's values",
		InForce: "nothing",
	}}
}
