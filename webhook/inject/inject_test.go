package inject

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"golang.org/x/tools/txtar"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// testConfig is what the chart's defaults make.
func testConfig(t testing.TB) Config {
	t.Helper()
	text, err := os.ReadFile("testdata/ca.crt")
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	ca, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return Config{
		ProxyImage: "registry.example/envoy:v1.40", VerifyImage: "registry.example/traffic-verify:v1",
		ImagePullPolicy: corev1.PullIfNotPresent, Verify: true,
		ProxyUID: 1337, ProxyPort: 10000, StatsPort: 8900, Concurrency: 2, LogLevel: "warning", IPv6: true,
		ProxyResources:  resources("20m", "128Mi", "2", "1Gi"),
		VerifyResources: resources("10m", "16Mi", "100m", "64Mi"),
		OutboundPolicy:  Block, ControlHost: "traffic-control.traffic-system.svc", ControlPort: 18000,
		CA: []*x509.Certificate{ca},
	}
}

func resources(cpu, memory, cpuLimit, memoryLimit string) corev1.ResourceRequirements {
	return corev1.ResourceRequirements{
		Requests: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory)},
		Limits:   corev1.ResourceList{"cpu": resource.MustParse(cpuLimit), "memory": resource.MustParse(memoryLimit)},
	}
}

func newInjector(t testing.TB, c Config) *Injector {
	t.Helper()
	i, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// injectRaw injects a Pod, given as the bytes that the API server sends.
func injectRaw(i *Injector, raw []byte) (Result, error) {
	p, err := Decode(raw)
	if err != nil {
		return Result{}, err
	}
	return i.Pod(p)
}

func templateRaw(i *Injector, raw []byte) ([]string, error) {
	p, err := Decode(raw)
	if err != nil {
		return nil, err
	}
	return i.Template(p)
}

// patched applies a patch as the API server does.
func patched(t testing.TB, raw []byte, ops []patch.Operation) []byte {
	t.Helper()
	if len(ops) == 0 {
		return raw
	}
	text, err := patch.Append(nil, ops)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	after, err := operations.Apply(raw)
	if err != nil {
		t.Fatalf("the patch does not apply: %v\n%s\n%s", err, raw, text)
	}
	return after
}

// TestStories injects pods with the chart's defaults. Each story has the pod before, and the pod after, warnings or the
// refusal as they come out. Values are changed by a section "config".
func TestStories(t *testing.T) {
	files, err := filepath.Glob("testdata/stories/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := &txtar.Archive{Comment: archive.Comment, Files: tell(t, archive)}
			if *update {
				if err := os.WriteFile(file, txtar.Format(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got, want := string(txtar.Format(got)), string(txtar.Format(archive)); got != want {
				t.Errorf("got (-update rewrites):\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// tell returns the story's inputs and what they lead to.
func tell(t *testing.T, story *txtar.Archive) []txtar.File {
	config := testConfig(t)
	var files []txtar.File
	var pod []byte
	for _, f := range story.Files {
		switch f.Name {
		case "config":
			override(t, &config, f.Data)
		case "pod.yaml":
			pod = f.Data
		default:
			continue
		}
		files = append(files, f)
	}
	raw, err := yaml.YAMLToJSON(pod)
	if err != nil {
		t.Fatal(err)
	}
	result, err := injectRaw(newInjector(t, config), raw)
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, txtar.File{Name: "outcome", Data: []byte(string(result.Outcome) + "\n")})
	if len(result.Warnings) > 0 {
		files = append(files, txtar.File{Name: "warnings", Data: []byte(strings.Join(result.Warnings, "\n") + "\n")})
	}
	if result.Refusal != "" {
		files = append(files, txtar.File{Name: "refusal", Data: []byte(strings.ReplaceAll(result.Refusal, "; ", ";\n") + "\n")})
	}
	if len(result.Patch) > 0 {
		files = append(files, txtar.File{Name: "patched.yaml", Data: readable(t, patched(t, raw, result.Patch), config)})
	}
	return files
}

// override sets values of the configuration.
func override(t *testing.T, c *Config, text []byte) {
	t.Helper()
	var values struct {
		Verify                     *bool
		OutboundPolicy             Policy
		ExcludeCIDRs, ExcludePorts []string
		PullSecrets                []string
	}
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		t.Fatal(err)
	}
	if values.Verify != nil {
		c.Verify = *values.Verify
	}
	if values.OutboundPolicy != "" {
		c.OutboundPolicy = values.OutboundPolicy
	}
	c.PullSecrets = values.PullSecrets
	for _, cidr := range values.ExcludeCIDRs {
		c.ExcludeCIDRs = append(c.ExcludeCIDRs, netip.MustParsePrefix(cidr))
	}
	for _, text := range values.ExcludePorts {
		ports, err := ParsePorts(text)
		if err != nil {
			t.Fatal(err)
		}
		c.ExcludePorts = append(c.ExcludePorts, ports)
	}
}

// readable is a pod as YAML. The bootstrap, which TestBootstrap shows, is left out.
func readable(t *testing.T, raw []byte, c Config) []byte {
	t.Helper()
	bootstrap, err := c.bootstrap()
	if err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	shown, err := yaml.JSONToYAML([]byte(strings.Replace(string(raw), string(quoted), `"(the bootstrap)"`, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return shown
}

// TestBootstrap shows the bootstrap of each policy.
func TestBootstrap(t *testing.T) {
	for _, policy := range []Policy{Block, Passthrough} {
		config := testConfig(t)
		config.OutboundPolicy = policy
		text, err := config.bootstrap()
		if err != nil {
			t.Fatal(err)
		}
		got, err := yaml.JSONToYAML([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		golden(t, filepath.Join("testdata", "bootstrap-"+string(policy)+".yaml"), got)
		variables := strings.NewReplacer("$(POD_NAME)", "", "$(POD_NAMESPACE)", "", "$(POD_IP)", "", "$(SERVICE_NAME)", "")
		if rest := variables.Replace(text); strings.Contains(rest, "$(") {
			t.Errorf("the kubelet would expand more than the variables of the sidecar:\n%s", rest)
		}
	}
}

func golden(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s: got (-update rewrites):\n%s", path, got)
	}
}

// TestInvalidConfig: a value that would make pods which cannot start must stop the webhook, not the pods.
func TestInvalidConfig(t *testing.T) {
	for name, break_ := range map[string]func(*Config){
		"proxy image":               func(c *Config) { c.ProxyImage = "" },
		"verify image":              func(c *Config) { c.VerifyImage = "" },
		"uid 0":                     func(c *Config) { c.ProxyUID = 0 },
		"verify's uid":              func(c *Config) { c.ProxyUID = VerifyUID },
		"proxy port":                func(c *Config) { c.ProxyPort = 0 },
		"one port":                  func(c *Config) { c.StatsPort = c.ProxyPort },
		"no workers":                func(c *Config) { c.Concurrency = 0 },
		"level":                     func(c *Config) { c.LogLevel = "loud" },
		"policy":                    func(c *Config) { c.OutboundPolicy = "open" },
		"host":                      func(c *Config) { c.ControlHost = "" },
		"variable":                  func(c *Config) { c.ControlHost = "$(POD_NAME)" },
		"control port":              func(c *Config) { c.ControlPort = 0 },
		"no CA":                     func(c *Config) { c.CA = nil },
		"host bits":                 func(c *Config) { c.ExcludeCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
		"reverse ports":             func(c *Config) { c.ExcludePorts = []redirect.PortRange{{From: 2, To: 1}} },
		"requests above the limits": func(c *Config) { c.ProxyResources = resources("20m", "2Gi", "2", "1Gi") },
		"the same of the check":     func(c *Config) { c.VerifyResources = resources("1", "16Mi", "100m", "64Mi") },
		"a pull secret's name":      func(c *Config) { c.PullSecrets = []string{"a b"} },
	} {
		c := testConfig(t)
		break_(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	c := testConfig(t)
	c.VerifyImage, c.Verify = "", false
	if _, err := New(c); err != nil {
		t.Errorf("without the check its image is not needed: %v", err)
	}
}

// TestNotAPod: what is not a Pod is an error, so that the request fails and nothing slips through.
func TestNotAPod(t *testing.T) {
	i := newInjector(t, testConfig(t))
	for _, raw := range []string{``, `null`, `[]`, `{}`, `{"metadata":{}}`, `{"spec":{}}`, `{"metadata":{},"spec":[]}`, `{"metadata":{"labels":3},"spec":{}}`} {
		if result, err := injectRaw(i, []byte(raw)); err == nil {
			t.Errorf("%s: %+v", raw, result)
		}
	}
}

// TestAnnotationsThatDoNotFit: Kubernetes takes 256 KiB of all annotations; a pod that has as many is refused with that reason,
// and not by the API server with one that names nothing of the sidecar.
func TestAnnotationsThatDoNotFit(t *testing.T) {
	i := newInjector(t, testConfig(t))
	pod := func(bytes int) []byte {
		return []byte(`{"metadata":{"name":"p","annotations":{"k":"` + strings.Repeat("x", bytes-1) + `"}},"spec":{"containers":[{"name":"app"}]}}`)
	}
	result, err := injectRaw(i, pod(1))
	if err != nil || result.Outcome != Injected {
		t.Fatalf("%+v, %v", result, err)
	}
	var p corev1.Pod
	if err := json.Unmarshal(patched(t, pod(1), result.Patch), &p); err != nil {
		t.Fatal(err)
	}
	ours := -1
	for key, value := range p.Annotations {
		ours += len(key) + len(value)
	}
	for bytes, want := range map[int]Outcome{maxAnnotations - ours: Injected, maxAnnotations - ours + 1: Refused, maxAnnotations: Refused} {
		result, err := injectRaw(i, pod(bytes))
		if err != nil || result.Outcome != want {
			t.Errorf("%d bytes: %s %.200s, %v, want %s", bytes, result.Outcome, result.Refusal, err, want)
		}
		template, err := templateRaw(i, pod(bytes))
		if told := len(template) > 0 && strings.Contains(template[0], "shorten them"); err != nil || told != (want == Refused) {
			t.Errorf("a template of %d bytes: %q, %v", bytes, template, err)
		}
	}
}
