package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/kubernetes-traffic-manager/traffic/tools/image/oci"
)

// A product is one image.
type product struct {
	name     string
	title    string
	value    string   // the chart's key below images; empty for images that the chart does not install
	user     string   // uid:gid
	packages []string // main packages; each binary is named like its folder, the first is the entrypoint
}

// nobody is the user of every image that needs no rights. It is not Envoy's 1337, whose traffic is not redirected.
const nobody = "65532:65532"

// products lists all images of this repository. traffic-verify has one of its own because every injected pod pulls it.
var products = []product{
	{
		"traffic-control", "xDS control plane, and what drains the gateway", "trafficControl", nobody,
		[]string{"./xds/cmd/traffic-control", "./xds/cmd/traffic-drain"},
	},
	{"traffic-webhook", "sidecar injector", "trafficWebhook", nobody, []string{"./webhook/cmd/traffic-webhook"}},
	{
		"traffic-node", "node agent and CNI plugin", "trafficNode", "0:0",
		[]string{"./cni-plugin/cmd/traffic-node", "./cni-plugin/cmd/traffic-cni"},
	},
	{"traffic-verify", "init container that checks the redirect", "trafficVerify", nobody, []string{"./cni-plugin/cmd/traffic-verify"}},
	{"bookinfo", "sample application", "", nobody, []string{"./samples/bookinfo"}},
	{"echo", "server of the samples that does what it is asked", "", nobody, []string{"./samples/echo"}},
}

// buildTags leave gRPC's page of traces out. It is a template, which may call any method by its name, so with it the linker
// keeps every method of every type: 29 MB of traffic-control, of which much is read and stays in memory.
const buildTags = "grpcnotrace"

// binDir is where programs are in an image.
const binDir = "/usr/local/bin"

// compile builds static binaries of packages for platform into dir. root is the module's folder. The workspace, the
// state of version control and the caller's GOFLAGS stay out of it, so that equal sources give equal bytes; so
// does the version, which the image's tag and label name: a release leaves alone what it did not change.
func compile(ctx context.Context, root, dir string, platform v1.Platform, packages ...string) error {
	arguments := []string{
		"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-tags", buildTags,
		"-o", dir + string(filepath.Separator),
	}
	command := exec.CommandContext(ctx, "go", append(arguments, packages...)...)
	command.Dir = root
	command.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0", "GOFLAGS=", "GOOS="+platform.OS, "GOARCH="+platform.Architecture)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("go build for %s: %w\n%s", platform, err, out)
	}
	return nil
}

// image assembles p from the binaries in dir.
func (p product) image(dir, version string, platform v1.Platform) (v1.Image, error) {
	var files []oci.File
	for _, program := range p.packages {
		binary := path.Base(program)
		files = append(files, oci.File{Path: path.Join(binDir, binary), Mode: 0o755, Source: filepath.Join(dir, binary)})
	}
	return oci.Image(files, oci.Config{
		Platform:   platform,
		Entrypoint: []string{files[0].Path},
		Env:        []string{"PATH=" + binDir},
		User:       p.user,
		Labels: map[string]string{
			"org.opencontainers.image.title":       p.name,
			"org.opencontainers.image.description": p.title,
			"org.opencontainers.image.version":     version,
			"org.opencontainers.image.licenses":    "Apache-2.0",
			"org.opencontainers.image.source":      "https://github.com/kubernetes-traffic-manager/traffic",
		},
	})
}
