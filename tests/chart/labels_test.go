package chart

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// everything switches on all objects that the chart can render.
const everything = `
prometheus: {volume: {persistent: true}}
prometheusOperator: {podMonitors: true, prometheusRule: true, labels: {team: monitoring}}
grafana: {dashboard: true}
zipkin: {enabled: true}
networkPolicies: {enabled: true}
resourceQuota: {enabled: true}
`

// Where a policy refuses what lacks a label, one object without it keeps the chart from being installed; a selector with it could
// never change again.
func TestCommonLabelsAreOnEverythingAndSelectNothing(t *testing.T) {
	rendered := template(t, "-f", valuesFile(t, []byte(everything)), "--set", "commonLabels.team=platform")
	for _, document := range documents(rendered) {
		var object map[string]any
		if err := yaml.Unmarshal([]byte(document.text), &object); err != nil {
			t.Fatalf("%s renders no YAML: %v", document.source, err)
		}
		team := "platform"
		if document.source == "prometheus/operator.yaml" {
			team = "monitoring" // what is said of these objects alone goes before what is said of all
		}
		want := []string{".metadata.labels.team=" + team}
		if _, runsPods := lookup(object, "spec.template"); runsPods {
			want = append(want, ".spec.template.metadata.labels.team="+team)
		}
		if got := occurrences(object, "team", ""); !slices.Equal(got, want) {
			t.Errorf("%s: in %v %v the label is at %q, want %q", document.source, object["kind"], object["metadata"], got, want)
		}
	}
}

// occurrences are the paths at which a key has a text, in alphabetical order.
func occurrences(node any, key, path string) []string {
	var all []string
	switch node := node.(type) {
	case map[string]any:
		for name, value := range node {
			if text, isText := value.(string); isText && name == key {
				all = append(all, path+"."+name+"="+text)
			}
			all = append(all, occurrences(value, key, path+"."+name)...)
		}
	case []any:
		for _, item := range node {
			all = append(all, occurrences(item, key, path+"[]")...)
		}
	}
	slices.SortFunc(all, strings.Compare)
	return all
}
