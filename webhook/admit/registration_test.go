package admit

import (
	"flag"
	"os"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// chartTemplate is where the Helm chart gets the entries from.
const chartTemplate = "../../charts/kubernetes-traffic-manager/templates/_webhooks.tpl"

const chartHeader = `{{- /*
Generated from webhook/admit/registration.go by "go test ./webhook/admit -update"; do not edit.
Both take a dict with "namespace" (the release's) and "certManagerNamespace".
*/ -}}
`

// TestChartTemplate keeps what the chart installs equal to what the code means.
func TestChartTemplate(t *testing.T) {
	r := Registration{Namespace: "{{ .namespace }}", CertManagerNamespace: "{{ .certManagerNamespace }}"}
	got := chartHeader + define(t, "traffic.mutatingWebhooks", r.Mutating()) + define(t, "traffic.validatingWebhooks", r.Validating())
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

func define(t *testing.T, name string, entries any) string {
	t.Helper()
	text, err := yaml.Marshal(entries)
	if err != nil {
		t.Fatal(err)
	}
	return "\n{{- define \"" + name + "\" }}\n" + string(text) + "{{- end }}\n"
}

// TestSelectorsTakeEveryCase: labels are true or false in any case, but a selector compares exactly.
func TestSelectorsTakeEveryCase(t *testing.T) {
	for word, want := range map[string]int{"true": 16, "false": 32} {
		seen := map[string]bool{}
		for _, v := range caseVariants(word) {
			if !strings.EqualFold(v, word) {
				t.Errorf("%q is not %q in another case", v, word)
			}
			seen[v] = true
		}
		if len(seen) != want {
			t.Errorf("%q: %d spellings, want %d", word, len(seen), want)
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
