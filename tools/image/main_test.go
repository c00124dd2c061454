package main

import (
	"archive/tar"
	"bytes"
	"context"
	"debug/elf"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"sigs.k8s.io/yaml"
)

// module writes a Go module with one program into a new folder.
func module(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":            "module example.org/greeter\n\ngo 1.24\n",
		"cmd/hello/main.go": "package main\n\nvar version string\n\nfunc main() { print(version) }\n",
	} {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func greeter(root string) Options {
	return Options{
		Root:      root,
		Version:   "1.2.3",
		Platforms: []v1.Platform{{OS: "linux", Architecture: "amd64"}},
		Products:  []product{{"hello", "greeter", "helloGreeter", nobody, []string{"./cmd/hello"}}},
	}
}

// A release that changes nothing of a program must not make every node pull it again: the version is in the label.
func TestVersionsShareLayers(t *testing.T) {
	var digests, labels []string
	for _, version := range []string{"1.2.3", "1.2.4"} {
		options := greeter(module(t))
		options.Version = version
		all, err := assemble(t.Context(), options, t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		layers, err := all[0].images[0].Layers()
		if err != nil {
			t.Fatal(err)
		}
		digest, err := layers[len(layers)-1].DiffID()
		if err != nil {
			t.Fatal(err)
		}
		config, err := all[0].images[0].ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		digests, labels = append(digests, digest.String()), append(labels, config.Config.Labels["org.opencontainers.image.version"])
	}
	if digests[0] != digests[1] {
		t.Errorf("the programs of two versions differ: %v", digests)
	}
	if labels[0] != "1.2.3" || labels[1] != "1.2.4" {
		t.Errorf("the images say that they are of versions %v", labels)
	}
}

// Sources in two folders, built by two runs, must be one image: the second push has nothing to send, and the values file
// that pins the digest does not change, so that nothing restarts.
func TestBuildTwiceIsTheSameImage(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	host := strings.TrimPrefix(server.URL, "http://")

	run := func() (output, values string) {
		options := greeter(module(t))
		options.Registry = host
		options.Values = filepath.Join(t.TempDir(), "values.yaml")
		var out bytes.Buffer
		if err := build(context.Background(), options, &out); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(options.Values)
		if err != nil {
			t.Fatal(err)
		}
		return out.String(), string(text)
	}
	first, firstValues := run()
	second, secondValues := run()
	if !regexp.MustCompile(regexp.QuoteMeta(host) + `/hello:1\.2\.3@sha256:[0-9a-f]{64} pushed in`).MatchString(first) {
		t.Errorf("the first run printed\n%s", first)
	}
	if !regexp.MustCompile(`/hello:1\.2\.3@sha256:[0-9a-f]{64} is up to date\n`).MatchString(second) {
		t.Errorf("the second run printed\n%s", second)
	}
	if firstValues != secondValues {
		t.Errorf("values differ:\n%s%s", firstValues, secondValues)
	}
	if !strings.HasPrefix(firstValues, "images:\n  helloGreeter: "+host+"/hello:1.2.3@sha256:") {
		t.Errorf("values are\n%s", firstValues)
	}
}

// A node pulls the image of its own platform out of the index, and can run what is in it.
func TestBuildForSeveralPlatforms(t *testing.T) {
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	options := greeter(module(t))
	options.Registry = strings.TrimPrefix(server.URL, "http://")
	options.Values = filepath.Join(t.TempDir(), "values.yaml")
	options.Platforms = append(options.Platforms, v1.Platform{OS: "linux", Architecture: "arm64"})
	if err := build(t.Context(), options, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(options.Values)
	if err != nil {
		t.Fatal(err)
	}
	_, pinned, _ := strings.Cut(strings.TrimSpace(string(text)), "helloGreeter: ")
	reference, err := name.ParseReference(pinned)
	if err != nil {
		t.Fatalf("the values file does not name the image: %s", text)
	}
	index, err := remote.Index(reference)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	machines := map[string]elf.Machine{}
	for _, entry := range manifest.Manifests {
		image, err := index.Image(entry.Digest)
		if err != nil {
			t.Fatal(err)
		}
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if said := config.Platform().String(); said != entry.Platform.String() {
			t.Errorf("the index says %s, the image %s", entry.Platform, said)
		}
		machines[entry.Platform.String()] = machine(t, image, "usr/local/bin/hello")
	}
	if want := map[string]elf.Machine{"linux/amd64": elf.EM_X86_64, "linux/arm64": elf.EM_AARCH64}; !maps.Equal(machines, want) {
		t.Errorf("the index has programs for %v, want %v", machines, want)
	}
}

// machine is what a program of an image runs on.
func machine(t *testing.T, image v1.Image, path string) elf.Machine {
	t.Helper()
	extracted := mutate.Extract(image)
	defer extracted.Close()
	files := tar.NewReader(extracted)
	for {
		header, err := files.Next()
		if err != nil {
			t.Fatalf("%s is not in the image: %v", path, err)
		}
		if header.Name != path {
			continue
		}
		content, err := io.ReadAll(files)
		if err != nil {
			t.Fatal(err)
		}
		program, err := elf.NewFile(bytes.NewReader(content))
		if err != nil {
			t.Fatal(err)
		}
		return program.Machine
	}
}

func TestBuildShowsCompilerErrors(t *testing.T) {
	root := module(t)
	if err := os.WriteFile(filepath.Join(root, "cmd/hello/main.go"), []byte("package main\n\nfunc main() { nonsense() }\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	err := build(context.Background(), greeter(root), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "main.go:3:15: undefined: nonsense") {
		t.Errorf("error is %v, want the compiler's own words", err)
	}
}

func TestParse(t *testing.T) {
	root := "../.."
	for arguments, want := range map[string]string{
		"-platform linux":                      `-platform: "linux" is not of the form linux/amd64`,
		"-platform linux/amd64,":               `-platform: "" is not of the form linux/amd64`,
		"-platform windows/amd64":              `-platform: "windows/amd64" is not of the form linux/amd64`,
		"-platform linux/arm/v7":               `-platform: "linux/arm/v7" is not of the form linux/amd64`,
		"-platform linux/a,linux/a":            "-platform: linux/a is there twice",
		"-archive x -platform linux/a,linux/b": "-archive: an archive holds one platform, give -platform one only",
		"-version 1 traffic-contrail":          `there is no image "traffic-contrail"; there are traffic-control, traffic-webhook, traffic-node, traffic-verify, bookinfo, echo`,
		"-root /nonexistent":                   "find the default of -version: open /nonexistent/charts/kubernetes-traffic-manager/Chart.yaml: no such file or directory",
		"-version 1 -nosuchflag":               "flag provided but not defined: -nosuchflag",
		"-version 1 bookinfo bookinfo2":        `there is no image "bookinfo2"; there are traffic-control, traffic-webhook, traffic-node, traffic-verify, bookinfo, echo`,
	} {
		if _, err := parse(strings.Fields(arguments), io.Discard); err == nil || err.Error() != want {
			t.Errorf("%s: error is %v, want %s", arguments, err, want)
		}
	}

	options, err := parse([]string{"-root", root, "traffic-node"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(options.Products) != 1 || options.Products[0].name != "traffic-node" {
		t.Errorf("products are %v", options.Products)
	}
	if options.Version != chart(t, root).AppVersion {
		t.Errorf("version is %s, want the chart's", options.Version)
	}
}

func chart(t *testing.T, root string) (chart struct{ AppVersion string }) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "charts/kubernetes-traffic-manager/Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	return chart
}

// A program that is in no image cannot be installed; an image of a program that is gone cannot be built.
func TestEveryProgramIsInAnImage(t *testing.T) {
	root := "../.."
	programs := []string{"./samples/bookinfo", "./samples/echo"}
	for _, pattern := range []string{"webhook/cmd/*", "cni-plugin/cmd/*", "xds/cmd/*"} {
		folders, err := filepath.Glob(filepath.Join(root, pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, folder := range folders {
			programs = append(programs, "./"+filepath.ToSlash(strings.TrimPrefix(folder, root+"/")))
		}
	}
	var packaged []string
	for _, product := range products {
		packaged = append(packaged, product.packages...)
	}
	slices.Sort(programs)
	slices.Sort(packaged)
	if !slices.Equal(programs, packaged) {
		t.Errorf("programs are %v\nimages hold  %v", programs, packaged)
	}
}
