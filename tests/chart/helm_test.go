package chart

import (
	"bytes"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	root      = "../.."
	chartDir  = root + "/charts/kubernetes-traffic-manager"
	helm      = root + "/.local/bin/helm" // made by make cluster
	namespace = "traffic-system"
)

var update = flag.Bool("update", false, "write what is rendered as what is wanted")

// run runs helm and returns its output and what it complains about.
func run(t *testing.T, arguments ...string) (output, complaint string, err error) {
	t.Helper()
	if _, err := os.Stat(helm); err != nil {
		t.Fatalf("helm is missing, make cluster builds it: %v", err)
	}
	command := exec.Command(helm, arguments...)
	// No cluster: what is rendered depends on the values alone.
	command.Env = append(os.Environ(), "KUBECONFIG=/dev/null", "HELM_CACHE_HOME="+t.TempDir(), "HELM_CONFIG_HOME="+t.TempDir(), "HELM_DATA_HOME="+t.TempDir())
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err = command.Run()
	return stdout.String(), stderr.String(), err
}

// template renders the chart for the release that the documentation installs.
func template(t *testing.T, arguments ...string) string {
	t.Helper()
	output, complaint, err := run(t, append([]string{"template", "traffic", chartDir, "-n", namespace}, arguments...)...)
	if err != nil {
		t.Fatalf("helm template %s: %v\n%s", strings.Join(arguments, " "), err, complaint)
	}
	return output
}

// valuesFile writes values where helm can read them.
func valuesFile(t *testing.T, values []byte) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// document is one rendered object: its text, and the template that it comes from.
type document struct {
	source string
	text   string
}

// documents splits what helm template printed.
func documents(rendered string) []document {
	var all []document
	for text := range strings.SplitSeq(rendered, "\n---\n") {
		text = strings.TrimPrefix(text, "---\n")
		_, line, _ := strings.Cut(text, "# Source: kubernetes-traffic-manager/templates/")
		source, _, _ := strings.Cut(line, "\n")
		all = append(all, document{source: source, text: strings.TrimSpace(text)})
	}
	return all
}

// decode reads all rendered objects of a kind.
func decode[T any](t *testing.T, rendered, kind string) []T {
	t.Helper()
	var all []T
	for _, document := range documents(rendered) {
		var meta struct{ Kind string }
		if err := yaml.Unmarshal([]byte(document.text), &meta); err != nil {
			t.Fatalf("%s renders no YAML: %v", document.source, err)
		}
		if meta.Kind != kind {
			continue
		}
		var object T
		if err := yaml.UnmarshalStrict([]byte(document.text), &object); err != nil {
			t.Fatalf("%s renders a %s with wrong fields: %v", document.source, kind, err)
		}
		all = append(all, object)
	}
	return all
}
