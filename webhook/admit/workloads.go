package admit

import (
	"fmt"
	"log/slog"
	"strings"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// workloads answers WorkloadPath.
type workloads struct {
	injector func() *inject.Injector
	copies   bool
	log      *slog.Logger
}

func (h workloads) answer(r *request[object]) (answer, error) {
	o := &r.Object
	if o.template == nil {
		return answer{}, errNoTemplate
	}
	kind := label.Kind(r.Kind.Kind)
	c, err := h.change(o, kind, r.Operation)
	if err != nil {
		return answer{}, err
	}
	var warnings []string
	if c.warning != "" {
		warnings = append(warnings, c.warning)
	}
	if c.injects {
		pod, err := inject.Decode(o.template.raw)
		if err != nil {
			return answer{}, err
		}
		about, err := h.injector().Template(pod)
		if err != nil {
			return answer{}, err
		}
		warnings = append(warnings, about...)
	}
	h.log.Info("a workload's label", "kind", string(kind), "namespace", r.Namespace, "name", o.Metadata.DisplayName(),
		"value", o.Metadata.Labels[label.EnabledKey], "result", c.result)
	return answer{result: c.result, patch: c.patch, warnings: bounded(describe(kind, o), warnings)}, nil
}

// change is what the label does, as far as it may.
func (h workloads) change(o *object, kind label.Kind, operation admissionv1.Operation) (change, error) {
	c, err := o.copyLabel(kind)
	switch {
	case err != nil || len(c.patch) == 0:
		return c, err
	case kind == label.Job && operation == admissionv1.Update:
		return change{result: "immutable", warning: fmt.Sprintf(
			"the pod template of a Job that has started cannot change: %s acts when a Job is created; delete it and create it again", label.EnabledKey)}, nil
	case !h.copies:
		return change{result: "switched-off", warning: fmt.Sprintf(
			"%s is not copied to pod templates in this cluster: set it in the pod template's labels", label.EnabledKey)}, nil
	}
	return c, nil
}

// describe names an object as kubectl does.
func describe(kind label.Kind, o *object) string {
	return strings.ToLower(string(kind)) + " " + o.Metadata.DisplayName()
}
