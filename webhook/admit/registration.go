package admit

import (
	"fmt"
	"slices"
	"strings"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// The paths that the webhook serves.
const (
	InjectPath   = "/inject"
	WorkloadPath = "/workload"
	WarnPath     = "/warn"
)

// ServiceName and ServicePort are where the API server finds the webhook, in the release's namespace.
const (
	ServiceName       = "traffic-webhook"
	ServicePort int32 = 443
)

// warnTimeout is how many seconds the API server waits for what is only a warning.
const warnTimeout int32 = 2

// isIngress is CEL: of Ingresses alone, the annotations are looked at.
const isIngress = `request.resource.resource == 'ingresses'`

// namespaceName is the label by which every namespace can be selected by name.
const namespaceName = "kubernetes.io/metadata.name"

// Where labels are, as CEL: on the object, and in its pod template (a CronJob's is one level deeper), whose annotations
// count as well.
const (
	celTemplate    = celPodTemplate + `.?labels`
	celAnnotations = celPodTemplate + `.?annotations`
	celLabels      = `object.metadata.?labels`

	celIngress = `object.metadata.?annotations.orValue({})`

	celPodTemplate = `object.?spec.?template.or(object.?spec.?jobTemplate.?spec.?template).?metadata`
)

// A Registration is what the API server is told about the webhook: which requests it shall send.
type Registration struct {
	// Namespace is the release's own namespace, which is never injected: a webhook that must admit its own pods cannot
	// start.
	Namespace string
	// CertManagerNamespace is never injected either: without it the webhook has no certificate.
	CertManagerNamespace string
	// CopyWorkloadLabel is that of Config. Without it the workload entry only gives warnings, and holds nothing up.
	CopyWorkloadLabel bool
}

// Mutating returns the entries that change objects. Pods that did not opt in are never sent, so the entries can fail
// closed: while the webhook is away, nothing else is held up. At most one of the two inject entries matches a pod.
func (r Registration) Mutating() []admissionv1.MutatingWebhook {
	optedIn, optedOut := label.CaseVariants("true"), label.CaseVariants("false")
	object := r.inject("object")
	object.ObjectSelector = selector(label.EnabledKey, metav1.LabelSelectorOpIn, optedIn)

	namespace := r.inject("namespace")
	namespace.NamespaceSelector.MatchExpressions = append(namespace.NamespaceSelector.MatchExpressions,
		requirement(label.EnabledKey, metav1.LabelSelectorOpIn, optedIn))
	namespace.ObjectSelector = selector(label.EnabledKey, metav1.LabelSelectorOpNotIn, slices.Concat(optedIn, optedOut))

	return []admissionv1.MutatingWebhook{object, namespace, r.workload()}
}

func (r Registration) inject(name string) admissionv1.MutatingWebhook {
	w := r.mutating(name+".inject", InjectPath, rule(admissionv1.NamespacedScope, create, "", "pods"))
	w.MatchConditions = []admissionv1.MatchCondition{{
		// The kubelet runs a static pod whatever becomes of its mirror.
		Name:       "not-a-mirror-pod",
		Expression: `!('kubernetes.io/config.mirror' in object.metadata.?annotations.orValue({}))`,
	}}
	return w
}

// workload is called only when a request changes the label of a workload or of its pod template, so that controllers'
// own writes never depend on the webhook and an unrelated write rolls nothing.
func (r Registration) workload() admissionv1.MutatingWebhook {
	w := r.mutating("workload", WorkloadPath,
		rule(admissionv1.NamespacedScope, write, "apps", "deployments", "statefulsets", "daemonsets"),
		rule(admissionv1.NamespacedScope, write, "batch", "jobs", "cronjobs"))
	// Matches when the old or the new object has the label.
	w.ObjectSelector = selector(label.EnabledKey, metav1.LabelSelectorOpExists, nil)
	w.MatchConditions = []admissionv1.MatchCondition{{
		Name: "label-changes",
		Expression: "oldObject == null || " +
			changes(celLabels+"[?'"+label.EnabledKey+"'].orValue('')") + " || " +
			changes(celTemplate+"[?'"+label.EnabledKey+"'].orValue('')"),
	}}
	if !r.CopyWorkloadLabel {
		w.FailurePolicy, w.TimeoutSeconds = new(admissionv1.Ignore), new(warnTimeout)
	}
	return w
}

// mutating is what all entries that change objects have in common. They fail closed.
func (r Registration) mutating(name, path string, rules ...admissionv1.RuleWithOperations) admissionv1.MutatingWebhook {
	return admissionv1.MutatingWebhook{
		Name:                    name + ".traffic.envoy.io",
		ClientConfig:            r.client(path),
		Rules:                   rules,
		NamespaceSelector:       r.namespaces(),
		FailurePolicy:           new(admissionv1.Fail),
		MatchPolicy:             new(admissionv1.Equivalent),
		ReinvocationPolicy:      new(admissionv1.IfNeededReinvocationPolicy),
		SideEffects:             new(admissionv1.SideEffectClassNone),
		TimeoutSeconds:          new(int32(10)),
		AdmissionReviewVersions: []string{"v1"},
	}
}

// Validating returns the entry that only gives warnings. It must never be in the way, so it fails open and fast. It sees every
// namespace: whoever opts in where no pod is injected shall hear it.
func (r Registration) Validating() []admissionv1.ValidatingWebhook {
	ours := func(labels string) string {
		return labels + ".orValue({}).exists(k, k.startsWith('" + label.Prefix + "') || k.matches('" + label.Misspelling + "'))"
	}
	return []admissionv1.ValidatingWebhook{{
		Name:         "warn.traffic.envoy.io",
		ClientConfig: r.client(WarnPath),
		Rules: []admissionv1.RuleWithOperations{
			rule(admissionv1.AllScopes, write, "", "namespaces", "pods", "services"),
			rule(admissionv1.NamespacedScope, write, "apps", "deployments", "statefulsets", "daemonsets"),
			rule(admissionv1.NamespacedScope, write, "batch", "jobs", "cronjobs"),
			rule(admissionv1.NamespacedScope, write, "networking.k8s.io", "ingresses"),
		},
		FailurePolicy:           new(admissionv1.Ignore),
		MatchPolicy:             new(admissionv1.Equivalent),
		SideEffects:             new(admissionv1.SideEffectClassNone),
		TimeoutSeconds:          new(warnTimeout),
		AdmissionReviewVersions: []string{"v1"},
		MatchConditions: []admissionv1.MatchCondition{
			{
				Name: "has-traffic-labels",
				Expression: ours(celLabels) + " || " + ours(celTemplate) + " || " + celAnnotations + ".orValue({}).exists(k, k.startsWith('" + inject.AnnotationPrefix + "'))" +
					" || (oldObject != null && " + ours(of("oldObject", celLabels)) + ")" +
					" || (" + isIngress + " && " + celIngress + ".exists(k, k.matches('" + label.MisspeltAnnotation + "')))",
			},
			{
				// A Service's specification decides what its labels open.
				Name: "labels-or-service-change",
				Expression: "oldObject == null || " + changes(celLabels+".orValue({})") + " || " + changes(celTemplate+".orValue({})") +
					" || " + changes(celAnnotations+".orValue({})") + " || (request.resource.resource == 'services' && " + changes("object.?spec.orValue({})") + ")" +
					" || (" + isIngress + " && " + changes(celIngress) + ")",
			},
			{
				// Nobody reads the warnings that a controller gets; its workload's template has been looked at.
				Name:       "not-made-by-a-controller",
				Expression: `oldObject != null || !has(object.metadata.ownerReferences)`,
			},
		},
	}}
}

func (r Registration) client(path string) admissionv1.WebhookClientConfig {
	return admissionv1.WebhookClientConfig{Service: &admissionv1.ServiceReference{
		Name: ServiceName, Namespace: r.Namespace, Path: &path, Port: new(ServicePort),
	}}
}

// namespaces leaves out those on which the webhook itself depends, so that no order of starts can lock up.
func (r Registration) namespaces() *metav1.LabelSelector {
	return selector(namespaceName, metav1.LabelSelectorOpNotIn,
		[]string{metav1.NamespaceSystem, r.Namespace, r.CertManagerNamespace})
}

var (
	create = []admissionv1.OperationType{admissionv1.Create}
	write  = []admissionv1.OperationType{admissionv1.Create, admissionv1.Update}
)

func rule(scope admissionv1.ScopeType, operations []admissionv1.OperationType, group string, resources ...string) admissionv1.RuleWithOperations {
	return admissionv1.RuleWithOperations{
		Operations: operations,
		Rule:       admissionv1.Rule{APIGroups: []string{group}, APIVersions: []string{"v1"}, Resources: resources, Scope: &scope},
	}
}

func selector(key string, op metav1.LabelSelectorOperator, values []string) *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{requirement(key, op, values)}}
}

func requirement(key string, op metav1.LabelSelectorOperator, values []string) metav1.LabelSelectorRequirement {
	return metav1.LabelSelectorRequirement{Key: key, Operator: op, Values: values}
}

// changes compares an expression about object with the same about oldObject.
func changes(expression string) string {
	return fmt.Sprintf("%s != %s", expression, of("oldObject", expression))
}

func of(object, expression string) string {
	return strings.ReplaceAll(expression, "object.", object+".")
}
