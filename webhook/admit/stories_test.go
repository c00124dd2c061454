package admit

import (
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json"
	"golang.org/x/tools/txtar"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// sidecar is that of the chart's defaults.
func sidecar() inject.Config {
	return inject.Config{
		ProxyImage: "registry.example/envoy:v1.40", VerifyImage: "registry.example/traffic-verify:v1", ImagePullPolicy: "IfNotPresent",
		Verify: true, ProxyUID: 1337, ProxyPort: 10000, StatsPort: 8900, Concurrency: 2, LogLevel: "warning", IPv6: true,
		OutboundPolicy: inject.Block, ControlHost: "traffic-control.traffic-system.svc", ControlPort: 18000,
	}
}

// injector is one of the chart's defaults, with a CA that only tests know.
func injector(t testing.TB) *inject.Injector {
	t.Helper()
	text, err := os.ReadFile("../inject/testdata/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	config := sidecar()
	if config.CA, err = parseCA(text); err != nil {
		t.Fatal(err)
	}
	i, err := inject.New(config)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestStories sends the requests of testdata/*.txtar, each "path operation kind" with the objects, and compares what comes
// out: one word for the metrics, the warnings, and the object after the patch.
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := txtar.Format(&txtar.Archive{Comment: archive.Comment, Files: tell(t, archive)})
			if *update {
				if err := os.WriteFile(file, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := string(txtar.Format(archive)); string(got) != want {
				t.Errorf("got (-update rewrites):\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// tell sends each request of a story and returns the story with its outcomes. A request's objects are old.yaml and
// new.yaml; a new.yaml that is missing is what the request before led to.
func tell(t *testing.T, story *txtar.Archive) []txtar.File {
	var files []txtar.File
	var request string
	var object, old []byte
	flush := func() {
		if request != "" {
			var outcome []txtar.File
			outcome, object = send(t, request, old, object)
			files = append(files, outcome...)
		}
	}
	for _, f := range story.Files {
		switch f.Name {
		case "request":
			flush()
			request, old = strings.TrimSpace(string(f.Data)), object
		case "old.yaml":
			old = f.Data
		case "new.yaml":
			object = f.Data
		default:
			continue
		}
		files = append(files, f)
	}
	flush()
	return files
}

// send returns what a request leads to, and the object after it.
func send(t *testing.T, line string, old, text []byte) ([]txtar.File, []byte) {
	words := strings.Fields(line)
	r := &request[object]{
		Operation: admissionv1.Operation(words[1]), Kind: metav1.GroupVersionKind{Kind: words[2]}, Namespace: "shop", Object: read(t, text),
	}
	if words[1] == "UPDATE" {
		r.OldObject = read(t, old)
	}
	i := injector(t)
	current := func() *inject.Injector { return i }
	if len(words) > 3 && strings.HasPrefix(words[3], "-n=") {
		r.Namespace, words = strings.TrimPrefix(words[3], "-n="), words[:3]
	}
	handle := warnings{injector: current, neverInjected: []string{"kube-system"}}.answer
	if words[0] == WorkloadPath {
		handle = workloads{injector: current, copies: len(words) < 4, log: quiet}.answer
	}
	a, err := handle(r)
	if err != nil || a.refusal != "" {
		t.Fatalf("%s: refused: %v %s", line, err, a.refusal)
	}
	files := []txtar.File{{Name: "result", Data: []byte(a.result + "\n")}}
	if len(a.warnings) > 0 {
		files = append(files, txtar.File{Name: "warnings", Data: []byte(strings.Join(a.warnings, "\n") + "\n")})
	}
	if len(a.patch) == 0 {
		return files, text
	}
	marshalled, err := patch.Append(nil, a.patch)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := jsonpatch.DecodePatch(marshalled)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := operations.Apply(jsonOf(t, text))
	if err != nil {
		t.Fatal(err)
	}
	after, err := yaml.JSONToYAML(raw)
	if err != nil {
		t.Fatal(err)
	}
	return append(files, txtar.File{Name: "patched.yaml", Data: after}), after
}

func read(t *testing.T, text []byte) (o object) {
	t.Helper()
	if err := json.Unmarshal(jsonOf(t, text), &o, inject.Decoding); err != nil {
		t.Fatal(err)
	}
	return o
}

func jsonOf(t *testing.T, text []byte) []byte {
	t.Helper()
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
