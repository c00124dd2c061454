package chart

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// writes is all that our programs may change in a cluster, by the role that lets them.
var writes = map[string][]string{
	"traffic-control": {
		"create events.k8s.io/events",
		"create authentication.k8s.io/tokenreviews",
		"create coordination.k8s.io/leases", "update coordination.k8s.io/leases",
		"patch networking.k8s.io/ingresses/status",
	},
	"traffic-node": {"create events.k8s.io/events", "patch events.k8s.io/events"},
}

// A program that is taken over must not be a way into the cluster.
func TestRightsAreLeast(t *testing.T) {
	rendered := template(t)
	rules := map[string][]rbacv1.PolicyRule{}
	for _, role := range decode[rbacv1.ClusterRole](t, rendered, "ClusterRole") {
		rules[role.Name] = append(rules[role.Name], role.Rules...)
	}
	for _, role := range decode[rbacv1.Role](t, rendered, "Role") {
		rules[role.Name] = append(rules[role.Name], role.Rules...)
	}
	if len(rules) == 0 {
		t.Fatal("the chart has no rules")
	}
	for role := range rules {
		for _, rule := range rules[role] {
			others := slices.Contains(rule.Resources, "configmaps") || slices.Contains(rule.APIGroups, "crd.projectcalico.org")
			if others && (len(rule.ResourceNames) != 1 || !slices.Equal(rule.Verbs, []string{"get"})) {
				t.Errorf("%s may %v of other people's %v %v: one by name is all that anybody has to read", role, rule.Verbs, rule.Resources, rule.ResourceNames)
			}
		}
	}
	for role := range rules {
		for _, right := range rights(rules[role]) {
			verb, resource, _ := strings.Cut(right, " ")
			reads := slices.Contains([]string{"get", "list", "watch"}, verb)
			secrets := resource == "/secrets" && (role != "traffic-control" || verb == "get")
			if strings.Contains(right, "*") || secrets || !reads && !slices.Contains(writes[role], right) {
				t.Errorf("%s may %s", role, right)
			}
		}
	}
	accounts := map[string]bool{}
	for name, pod := range pods(t, rendered) {
		if accounts[pod.Spec.ServiceAccountName] || pod.Spec.ServiceAccountName != name {
			t.Errorf("%s runs as service account %q", name, pod.Spec.ServiceAccountName)
		}
		accounts[pod.Spec.ServiceAccountName] = true
	}
}

// rights is what rules let one do, each as "verb group/resource".
func rights(rules []rbacv1.PolicyRule) []string {
	var all []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					all = append(all, verb+" "+group+"/"+resource)
				}
			}
		}
	}
	return all
}

// All but the node agent run in a namespace that enforces Pod Security "restricted".
func TestOnlyTheNodeAgentNeedsPrivileges(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	rendered := template(t)
	all := pods(t, rendered)
	for _, pod := range decode[corev1.Pod](t, rendered, "Pod") { // of helm test
		all[pod.Name] = corev1.PodTemplateSpec{ObjectMeta: pod.ObjectMeta, Spec: pod.Spec}
		if *pod.Spec.AutomountServiceAccountToken || pod.Spec.ServiceAccountName != "" {
			t.Errorf("%s has rights", pod.Name)
		}
	}
	for name, pod := range all {
		meta := &metav1.ObjectMeta{Name: name, Annotations: pod.Annotations}
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, meta, &pod.Spec))
		if want := name != "traffic-node"; result.Allowed != want {
			t.Errorf("%s: restricted allows it: %t (%s)", name, result.Allowed, result.ForbiddenDetail())
		}
	}
}

// The agent is the one that repairs a node: it must start on all of them, before pod networks work, and without the
// rights of a privileged container.
func TestNodeAgentRunsEverywhere(t *testing.T) {
	pod := pods(t, template(t))["traffic-node"].Spec
	if !slices.ContainsFunc(pod.Tolerations, func(t corev1.Toleration) bool {
		return t.Key == "" && t.Operator == corev1.TolerationOpExists && t.Effect == ""
	}) {
		t.Error("there are taints that keep it away")
	}
	if !pod.HostNetwork || pod.PriorityClassName != "system-node-critical" {
		t.Errorf("host network %t, priority %q", pod.HostNetwork, pod.PriorityClassName)
	}
	if security := pod.Containers[0].SecurityContext; security.Privileged != nil && *security.Privileged {
		t.Error("it is privileged")
	}
}
