package admit

import (
	"errors"
	"fmt"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

var errNoTemplate = errors.New("a workload without a pod template")

// A change is what the label of a workload does to its pod template.
type change struct {
	// result is one word for it.
	result string
	patch  []patch.Operation
	// injects says that the template's pods will be injected because of this label.
	injects bool
	warning string
}

// copyLabel brings the workload's label to its pod template, where it counts, and rolls the workload. A label of the
// template that was not copied there is its author's: it wins and is not touched.
func (o *object) copyLabel(kind label.Kind) (change, error) {
	settings, _ := label.Parse(kind, o.Metadata.Labels)
	wanted := ""
	if settings.Enabled != nil {
		wanted = o.Metadata.Labels[label.EnabledKey]
	}
	var labels, annotations map[string]string
	if o.template.Metadata != nil {
		labels, annotations = o.template.Metadata.Labels, o.template.Metadata.Annotations
	}
	has, mark := labels[label.EnabledKey], annotations[inject.TemplateLabelAnnotation]
	switch {
	case has != "" && has != mark:
		return o.authors(wanted, has, mark), nil
	case wanted == "":
		return change{result: "removed", patch: o.remove(has, mark)}.unlessEmpty(), nil
	}
	ops, err := o.set(labels, annotations, wanted)
	return change{result: "copied", patch: ops, injects: *settings.Enabled}.unlessEmpty(), err
}

// set writes the copy and its mark.
func (o *object) set(labels, annotations map[string]string, value string) ([]patch.Operation, error) {
	var ops []patch.Operation
	if o.template.Metadata == nil {
		ops = append(ops, patch.Add(o.path.Member("metadata"), jsontext.Value("{}")))
	}
	copied, err := patch.Set(o.path.Member("metadata").Member("labels"), labels, map[string]string{label.EnabledKey: value})
	if err != nil {
		return nil, err
	}
	marked, err := patch.Set(o.path.Member("metadata").Member("annotations"), annotations, map[string]string{inject.TemplateLabelAnnotation: value})
	return slices.Concat(ops, copied, marked), err
}

// authors is for a template whose own label is not a copy. A mark that is left from one is taken away, or it would claim
// the label as soon as the values happen to agree.
func (o *object) authors(wanted, has, mark string) change {
	c := change{result: "kept", patch: o.remove("", mark)}
	templateSettings, _ := label.Parse(label.Pod, map[string]string{label.EnabledKey: has})
	c.injects = templateSettings.Enabled != nil && *templateSettings.Enabled
	if wanted != "" && wanted != has {
		c.warning = fmt.Sprintf("its pod template has %s=%s of its own, which wins over %s", label.EnabledKey, has, wanted)
	}
	return c
}

// remove takes our copy and its mark out of the template, those that are there.
func (o *object) remove(copied, mark string) []patch.Operation {
	var ops []patch.Operation
	if copied != "" {
		ops = append(ops, patch.Remove(o.path.Member("metadata").Member("labels").Member(label.EnabledKey)))
	}
	if mark != "" {
		ops = append(ops, patch.Remove(o.path.Member("metadata").Member("annotations").Member(inject.TemplateLabelAnnotation)))
	}
	return ops
}

func (c change) unlessEmpty() change {
	if len(c.patch) == 0 {
		c.result = "unchanged"
	}
	return c
}
