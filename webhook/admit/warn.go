package admit

import (
	"fmt"
	"slices"
	"strconv"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// warnings answers WarnPath.
type warnings struct {
	injector      func() *inject.Injector
	collector     bool
	neverInjected []string
}

// answer says what the labels of an object do not do, the annotations of an Ingress, and both of a pod template. Whoever changes
// it hears what is new: what was so before was told to who did it, and would hide the rest.
func (h warnings) answer(r *request[object]) (answer, error) {
	o := &r.Object
	kind := label.Kind(r.Kind.Kind)
	texts := h.about(kind, r.Namespace, o)
	if r.Operation == admissionv1.Update {
		old := &r.OldObject
		before := map[string]bool{}
		for _, text := range h.about(kind, r.Namespace, old) {
			before[text] = true
		}
		texts = slices.DeleteFunc(texts, func(text string) bool { return before[text] })
		if len(h.notInjected(kind, r.Namespace, o)) == 0 {
			texts = append(texts, tooLate(kind, o, old)...)
		}
	}
	if len(texts) == 0 {
		return answer{result: "silent"}, nil
	}
	return answer{result: "warned", warnings: bounded(describe(kind, o), texts)}, nil
}

// about tells what is so of an object, however it came to be.
func (h warnings) about(kind label.Kind, namespace string, o *object) []string {
	settings, problems := label.Parse(kind, o.Metadata.Labels)
	problems = append(problems, h.notInjected(kind, namespace, o)...)
	problems = append(problems, label.Misspelt(o.Metadata.Labels)...)
	if !h.collector {
		problems = settings.Untraced(o.Metadata.Labels, problems)
	}
	if kind == label.Service {
		_, shut := o.Spec.Opened(o.Metadata.Labels, settings)
		problems = append(problems, shut...)
	}
	if kind == label.Pod {
		problems = append(problems, o.Spec.Undeclared(o.Metadata.Labels, settings, inject.ProxyContainer)...)
	}
	if kind == label.Ingress {
		// Of any class: an annotation of ours is meant for the gateway, and which classes are its own is in objects that are not sent here.
		_, wrong := label.ParseIngress(o.Metadata.Annotations)
		problems = slices.Concat(problems, wrong, label.MisspeltIngress(o.Metadata.Annotations))
	}
	texts := sentences("", problems)
	if o.template != nil && o.template.Metadata != nil {
		settings, problems := label.Parse(label.Pod, o.template.Metadata.Labels)
		problems = append(problems, label.Misspelt(o.template.Metadata.Labels)...)
		problems = append(problems, o.template.Spec.Undeclared(o.template.Metadata.Labels, settings, inject.ProxyContainer)...)
		if !h.collector {
			problems = settings.Untraced(o.template.Metadata.Labels, problems)
		}
		texts = append(texts, sentences("pod template: ", problems)...)
		for _, text := range h.injector().Annotations(o.template.Metadata.Annotations) {
			texts = append(texts, "pod template: "+text)
		}
	}
	return texts
}

// notInjected tells of an object that opts in where no pod is injected. A workload may do so in its pod template.
func (h warnings) notInjected(kind label.Kind, namespace string, o *object) []label.Problem {
	if kind == label.Namespace {
		namespace = o.Metadata.Name
	}
	if !slices.Contains(h.neverInjected, namespace) {
		return nil
	}
	labels := o.Metadata.Labels
	if enabled(kind, labels) != "true" && o.template != nil && o.template.Metadata != nil {
		kind, labels = label.Pod, o.template.Metadata.Labels
	}
	if enabled(kind, labels) != "true" {
		return nil
	}
	return []label.Problem{label.NeverInjected(namespace, labels[label.EnabledKey])}
}

func sentences(prefix string, problems []label.Problem) []string {
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = prefix + p.String()
	}
	return texts
}

// tooLate tells that opting in acts at the creation of a pod, to those who opt in what is there already.
func tooLate(kind label.Kind, o, old *object) []string {
	if enabled(kind, o.Metadata.Labels) == enabled(kind, old.Metadata.Labels) {
		return nil // a wrong value is none, and told as such
	}
	switch kind {
	case label.Pod:
		return []string{label.EnabledKey + " acts when a pod is created: this one stays as it is"}
	case label.Namespace:
		return []string{fmt.Sprintf("%s acts on pods that are created from now on: kubectl rollout restart -n %s deployment",
			label.EnabledKey, o.Metadata.DisplayName())}
	default:
		return nil
	}
}

// enabled is what the label counts as: true, false or nothing.
func enabled(kind label.Kind, labels map[string]string) string {
	settings, _ := label.Parse(kind, labels)
	if settings.Enabled == nil {
		return ""
	}
	return strconv.FormatBool(*settings.Enabled)
}
