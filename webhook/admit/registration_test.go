package admit

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// chartTemplate is where the Helm chart gets the entries from.
const chartTemplate = "../../charts/kubernetes-traffic-manager/templates/_webhooks.tpl"

const chartHeader = `{{- /*
Generated from webhook/admit/registration.go by "go test ./webhook/admit -update"; do not edit.
Both take a dict with "namespace" (the release's), "certManagerNamespace" and "copyWorkloadLabel".
*/ -}}
`

// TestChartTemplate keeps what the chart installs equal to what the code means.
func TestChartTemplate(t *testing.T) {
	r := Registration{Namespace: "{{ .namespace }}", CertManagerNamespace: "{{ .certManagerNamespace }}"}
	warning := r.Mutating()
	r.CopyWorkloadLabel = true
	copying := r.Mutating()
	same := len(copying) - 1 // all but the workload entry, which is the last
	if diff := cmp.Diff(copying[:same], warning[:same]); diff != "" {
		t.Fatalf("copying labels is an affair of the workload entry alone:\n%s", diff)
	}
	got := chartHeader +
		define("traffic.mutatingWebhooks", yamlOf(t, copying[:same])+
			"{{- if .copyWorkloadLabel }}\n"+yamlOf(t, copying[same:])+"{{- else }}\n"+yamlOf(t, warning[same:])+"{{- end }}\n") +
		define("traffic.validatingWebhooks", yamlOf(t, r.Validating()))
	if *update {
		if err := os.WriteFile(chartTemplate, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(chartTemplate)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s is stale: run go test ./webhook/admit -update", chartTemplate)
	}
}

func define(name, text string) string {
	return "\n{{- define \"" + name + "\" }}\n" + text + "{{- end }}\n"
}

func yamlOf(t *testing.T, entries any) string {
	t.Helper()
	text, err := yaml.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestSelectorsTakeEveryCase: labels are true or false in any case, but a selector compares exactly.
func TestSelectorsTakeEveryCase(t *testing.T) {
	entries := Registration{Namespace: "release", CertManagerNamespace: "cert-manager"}.Mutating()
	spellings := map[string]map[string]int{}
	for _, entry := range entries[:2] {
		count := map[string]int{}
		for _, v := range entry.ObjectSelector.MatchExpressions[0].Values {
			count[strings.ToLower(v)]++
		}
		spellings[entry.Name] = count
	}
	want := map[string]map[string]int{
		"object.inject.traffic.envoy.io":    {"true": 16},
		"namespace.inject.traffic.envoy.io": {"true": 16, "false": 32},
	}
	if diff := cmp.Diff(want, spellings); diff != "" {
		t.Errorf("spellings by entry (-want +got):\n%s", diff)
	}
}

// TestWarningsHoldNothingUp: where the workload's label is not copied, the entry only warns, and a webhook that is away
// must not keep anybody from labelling.
func TestWarningsHoldNothingUp(t *testing.T) {
	for copies, want := range map[bool]string{true: "Fail 10s", false: "Ignore 2s"} {
		entry := Registration{CopyWorkloadLabel: copies}.workload()
		if got := fmt.Sprintf("%s %ds", *entry.FailurePolicy, *entry.TimeoutSeconds); got != want {
			t.Errorf("copying %t: %s, want %s", copies, got, want)
		}
	}
}

// TestEntriesAreDisjoint: were a pod matched by both entries, it would be sent twice.
func TestEntriesAreDisjoint(t *testing.T) {
	entries := Registration{Namespace: "release", CertManagerNamespace: "cert-manager"}.Mutating()
	in := entries[0].ObjectSelector.MatchExpressions[0].Values
	notIn := map[string]bool{}
	for _, v := range entries[1].ObjectSelector.MatchExpressions[0].Values {
		notIn[v] = true
	}
	for _, v := range in {
		if !notIn[v] {
			t.Errorf("a pod labelled %q in a namespace that opted in matches both entries", v)
		}
	}
}
