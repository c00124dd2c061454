package chart

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/diff"
	"golang.org/x/tools/txtar"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

const defaultGolden = "testdata/default.yaml"

// TestNoObjectComesTwice: the second of two would take the place of the first, or the installation fail.
func TestNoObjectComesTwice(t *testing.T) {
	for _, arguments := range [][]string{nil, {"-n", "kube-system"}, {"--set", "cni.ciliumNamespace=" + namespace}} {
		seen := map[string]string{}
		for _, d := range documents(template(t, arguments...)) {
			var o metav1.PartialObjectMetadata
			if err := yaml.Unmarshal([]byte(d.text), &o); err != nil {
				t.Fatal(err)
			}
			id := o.Kind + " " + o.Namespace + "/" + o.Name
			if first, twice := seen[id]; twice {
				t.Errorf("%v: %s is in %s and in %s", arguments, id, first, d.source)
			}
			seen[id] = d.source
		}
	}
}

// golden compares got with a file, or writes the file with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("not what %s holds; -update takes this over, if it is right:\n%s", file, diff.Diff(file, want, "now", []byte(got)))
	}
}

// objects is what the chart renders, without its admission entries, which are generated and tested elsewhere, and without the
// text of alerts and dashboard, which has files of its own.
func objects(t *testing.T, rendered string) string {
	t.Helper()
	var kept []string
	for _, document := range documents(rendered) {
		if document.source != "webhook/registration.yaml" {
			kept = append(kept, document.text)
		}
	}
	all := strings.Join(kept, "\n---\n") + "\n"
	for _, file := range []string{"files/alerts.yaml", "files/alerts-ingress.yaml", "files/dashboard.json"} {
		text, err := os.ReadFile(filepath.Join(chartDir, file))
		if err != nil {
			t.Fatal(err)
		}
		for _, indent := range []string{"  ", "    "} {
			whole := strings.ReplaceAll(strings.TrimRight(string(text), "\n"), "RELEASE_NAMESPACE", namespace)
			whole = indent + strings.ReplaceAll(whole, "\n", "\n"+indent)
			all = strings.ReplaceAll(all, whole+"\n", indent+"(all of "+file+")\n")
		}
	}
	return all
}

// The default installation, all of it, for a reviewer to read.
func TestDefault(t *testing.T) { golden(t, defaultGolden, objects(t, template(t))) }

// Each story sets values and says what then differs from the default installation: a value without effect, or with an
// effect that nobody meant, shows here.
func TestValuesChangeWhatTheySay(t *testing.T) {
	plain := template(t)
	before := objects(t, plain)
	all := documents(plain)
	for _, story := range stories(t) {
		t.Run(story.name, func(t *testing.T) {
			rendered := template(t, "-f", valuesFile(t, story.values))
			all = append(all, documents(rendered)...)
			got := difference(before, objects(t, rendered))
			if len(got) == 0 {
				t.Fatal("these values change nothing")
			}
			golden(t, story.file, string(txtar.Format(&txtar.Archive{Comment: story.comment, Files: []txtar.File{
				{Name: "values.yaml", Data: story.values}, {Name: "want.diff", Data: got},
			}})))
		})
	}
	t.Run("every line", func(t *testing.T) { everyLineIsIn(t, all) })
}

// A story sets values.
type story struct {
	name, file      string
	comment, values []byte
}

func stories(t *testing.T) []story {
	t.Helper()
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("there are no stories: %v", err)
	}
	var all []story
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if len(archive.Files) == 0 || archive.Files[0].Name != "values.yaml" {
			t.Fatalf("%s does not begin with values.yaml", file)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		all = append(all, story{name, file, archive.Comment, archive.Files[0].Data})
	}
	return all
}

// difference is what is removed and added, with the lines around it but not their numbers, which change with every story.
func difference(before, after string) []byte {
	full := diff.Diff("default", []byte(before), "with these values", []byte(after))
	_, hunks, _ := bytes.Cut(full, []byte("+++ with these values\n"))
	return regexp.MustCompile(`(?m)^@@ .* @@$`).ReplaceAll(hunks, []byte("@@"))
}

// Argo CD and Flux render again and again: a difference would be a change each time.
func TestRenderingIsPure(t *testing.T) {
	first, second := template(t), template(t)
	if first != second {
		t.Error("two renderings differ")
	}
	impure := regexp.MustCompile(`\b(lookup|rand\w+|gen[A-Z]\w+|now|uuidv4|getHostByName|htpasswd|bcrypt)\b`)
	err := filepath.WalkDir(filepath.Join(chartDir, "templates"), func(file string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		for _, action := range regexp.MustCompile(`(?s)\{\{.*?\}\}`).FindAllString(string(text), -1) {
			if found := impure.FindString(action); found != "" && !strings.HasPrefix(strings.TrimLeft(action, "{- "), "/*") {
				t.Errorf("%s calls %s: the result depends on more than the values", file, found)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// The API server must find the webhook in the release's own namespace, trust its certificate, and never ask it about the
// pods on which it depends.
func TestAdmissionFollowsTheRelease(t *testing.T) {
	rendered, complaint, err := run(t, "template", "other", chartDir, "-n", "elsewhere", "--set", "certManager.namespace=certs")
	if err != nil {
		t.Fatal(complaint)
	}
	if strings.Contains(rendered, "traffic-system") {
		t.Error("something names another namespace than the release's")
	}
	mutating := decode[admissionv1.MutatingWebhookConfiguration](t, rendered, "MutatingWebhookConfiguration")
	validating := decode[admissionv1.ValidatingWebhookConfiguration](t, rendered, "ValidatingWebhookConfiguration")
	if len(mutating) != 1 || len(validating) != 1 {
		t.Fatalf("rendered %d mutating and %d validating configurations", len(mutating), len(validating))
	}
	const from = "cert-manager.io/inject-ca-from"
	for kind, got := range map[string]string{"mutating": mutating[0].Annotations[from], "validating": validating[0].Annotations[from]} {
		if got != "elsewhere/traffic-webhook" {
			t.Errorf("the %s configuration gets its CA from %q", kind, got)
		}
	}
	for _, webhook := range mutating[0].Webhooks {
		if service := webhook.ClientConfig.Service; service.Namespace != "elsewhere" || service.Name != "traffic-webhook" {
			t.Errorf("%s calls %s/%s", webhook.Name, service.Namespace, service.Name)
		}
		for _, spared := range []string{"kube-system", "elsewhere", "certs"} {
			if !excludes(webhook, spared) {
				t.Errorf("%s is asked about pods of %s", webhook.Name, spared)
			}
		}
	}
}

// Where the webhook only warns about a workload's label, a webhook that is away must not keep anybody from setting it.
func TestWorkloadEntryHoldsUpOnlyWhatItCopies(t *testing.T) {
	for copies, want := range map[string]admissionv1.FailurePolicyType{"true": admissionv1.Fail, "false": admissionv1.Ignore} {
		rendered := template(t, "--set", "webhook.copyWorkloadLabel="+copies)
		got := map[string]admissionv1.FailurePolicyType{}
		for _, webhook := range decode[admissionv1.MutatingWebhookConfiguration](t, rendered, "MutatingWebhookConfiguration")[0].Webhooks {
			got[webhook.Name] = *webhook.FailurePolicy
		}
		if diff := cmp.Diff(map[string]admissionv1.FailurePolicyType{
			"object.inject.traffic.envoy.io":    admissionv1.Fail,
			"namespace.inject.traffic.envoy.io": admissionv1.Fail,
			"workload.traffic.envoy.io":         want,
		}, got); diff != "" {
			t.Errorf("with webhook.copyWorkloadLabel=%s (-want +got):\n%s", copies, diff)
		}
	}
}

func excludes(webhook admissionv1.MutatingWebhook, namespace string) bool {
	for _, requirement := range webhook.NamespaceSelector.MatchExpressions {
		if requirement.Key != "kubernetes.io/metadata.name" || requirement.Operator != "NotIn" {
			continue
		}
		for _, value := range requirement.Values {
			if value == namespace {
				return true
			}
		}
	}
	return false
}

// notes is what helm tells whoever installs the chart.
func notes(t *testing.T, arguments ...string) string {
	t.Helper()
	output, complaint, err := run(t, append([]string{"install", "traffic", chartDir, "-n", namespace, "--dry-run=client"}, arguments...)...)
	if err != nil {
		t.Fatal(complaint)
	}
	_, notes, found := strings.Cut(output, "NOTES:")
	if !found {
		t.Fatal("there are no notes")
	}
	return notes
}

// A pod that keeps its Envoy after the uninstall is cut off at Envoy's next start: who uninstalls must find those pods.
func TestUninstallTellsWhichPodsToRoll(t *testing.T) {
	readme, err := os.ReadFile(filepath.Join(chartDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	command := "kubectl get pods -A -o custom-columns='NAMESPACE:.metadata.namespace,NAME:.metadata.name,ENVOY:.metadata.annotations." +
		strings.ReplaceAll(label.ProxyAnnotation, ".", `\.`) + "' | grep sidecar\n"
	for name, text := range map[string]string{"README.md": string(readme), "the notes": notes(t)} {
		if !strings.Contains(text, command) || !strings.Contains(text, "helm uninstall") {
			t.Errorf("%s does not tell of helm uninstall and of\n%s", name, command)
		}
	}
}

// A sidecar lives with what it was injected with: who changes that with helm upgrade must learn that nothing happens yet.
func TestNotesTellWhatToRollAfterAnUpgrade(t *testing.T) {
	text := notes(t)
	for _, words := range []string{"helm upgrade", "roll what is injected", "outbound.defaultPolicy", "port.trafficControl, Envoys that were injected before ask at the old port"} {
		if !strings.Contains(text, words) {
			t.Errorf("the notes lack %q:\n%s", words, text)
		}
	}
}

// Whoever installs the product must learn what opting in closes, or that it closes nothing.
func TestNotesTellWhatOptingInCloses(t *testing.T) {
	for set, want := range map[string][]string{
		"outbound.defaultPolicy=block": {
			"OPTING IN CLOSES ALL OUTGOING TCP TRAFFIC THAT NO LABEL OPENS, but for DNS and the Kubernetes API.",
			"traffic.port.PORT=http", "kubectl logs POD -c traffic-envoy", "outbound.defaultPolicy=passthrough",
			"redirect.excludeCIDRs", "traffic.envoy.exclude-ports", "traffic.envoy.enabled=false",
		},
		"outbound.kubernetesAPI=false":       {"THAT NO LABEL OPENS, but for DNS. What"},
		"outbound.defaultPolicy=passthrough": {"pass through Envoy unchanged"},
	} {
		text := notes(t, "--set", set)
		for _, words := range want {
			if !strings.Contains(text, words) {
				t.Errorf("with %s the notes lack %q:\n%s", set, words, text)
			}
		}
	}
	if strings.Contains(notes(t, "--set", "outbound.defaultPolicy=passthrough"), "CLOSES") {
		t.Error("with passthrough the notes say that something is closed")
	}
}
