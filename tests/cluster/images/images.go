// Package images makes the container images that a cluster starts with, from
// the programs that were built and from Debian's.
package images

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/build"
	"github.com/kubernetes-traffic-manager/traffic/tools/image/oci"
)

// Image is one image and what it is made of.
type Image struct {
	Name       string // "repository:tag", without the registry
	Program    string // path on the machine
	Path       string // of the program in the image
	Entrypoint []string
	User       string
	Shared     bool       // whether to add the libraries that the program is linked with
	Linked     []string   // what the program loads by itself, and is linked with others
	Trees      []string   // directories of the machine, which are in the same places in the image
	Files      []oci.File // more files
}

// All lists the images of a cluster; bin is the directory of built programs.
func All(bin string) []Image {
	return []Image{
		static(bin, "pause", "v1", "65535:65535"),
		static(bin, "coredns", build.CoreDNSVersion, "65532:65532"),
		static(bin, "cert-manager-controller", build.CertManagerVersion, "1000:1000"),
		static(bin, "cert-manager-cainjector", build.CertManagerVersion, "1000:1000"),
		static(bin, "cert-manager-acmesolver", build.CertManagerVersion, "1000:1000"),
		static(bin, "prometheus", build.PrometheusVersion, "65534:65534"),
		envoy(bin),
		curl(),
	}
}

// Pebble is an ACME server for tests.
func Pebble(bin string) Image { return static(bin, "pebble", build.PebbleVersion, "65532:65532") }

// static is the image of a program that needs nothing else.
func static(bin, name, version, user string) Image {
	path := "/" + name
	return Image{Name: name + ":" + version, Program: filepath.Join(bin, name), Path: path, Entrypoint: []string{path}, User: user}
}

// envoy is like Envoy's own image: the program in the same place, its user,
// and a /tmp.
func envoy(bin string) Image {
	const path = "/usr/local/bin/envoy"
	return Image{
		Name: "envoy:" + build.EnvoyVersion, Program: filepath.Join(bin, "envoy"), Path: path, Shared: true,
		Entrypoint: []string{path}, User: "1337:1337",
		Files: append(base(), oci.File{Path: "/etc/envoy", Mode: fs.ModeDir | 0o755}),
	}
}

// curl is for scripts that ask things from inside a pod: curl and busybox, and
// nothing to do until somebody calls them.
func curl() Image {
	return Image{
		Name: "curl:latest", Program: "/usr/bin/curl", Path: "/usr/bin/curl", Shared: true,
		Entrypoint: []string{"/bin/sleep", "infinity"}, User: "65532:65532",
		Files: append(base(), oci.File{Path: "/bin/busybox", Mode: 0o755, Source: "/usr/bin/busybox"}),
	}
}

// base is what the C library and programs expect of a system.
func base() []oci.File {
	passwd := "root:x:0:0::/root:/bin/sh\nenvoy:x:1337:1337::/:/bin/false\nnonroot:x:65532:65532::/tmp:/bin/sh\n"
	group := "root:x:0:\nenvoy:x:1337:\nnonroot:x:65532:\n"
	return []oci.File{
		{Path: "/etc/passwd", Mode: 0o644, Content: []byte(passwd)},
		{Path: "/etc/group", Mode: 0o644, Content: []byte(group)},
		{Path: "/etc/nsswitch.conf", Mode: 0o644, Content: []byte("hosts: files dns\n")},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
	}
}

// Step is the step that makes the image as an OCI layout in dir.
func (i Image) Step(dir string) build.Step {
	return build.Step{
		Name:   "image-" + strings.ReplaceAll(i.Name, ":", "-"),
		Key:    i.key(),
		Result: []string{filepath.Join(i.layout(dir), "index.json")},
		Run:    func(ctx context.Context) error { return i.write(ctx, dir) },
	}
}

func (i Image) layout(dir string) string {
	return filepath.Join(dir, strings.ReplaceAll(i.Name, ":", "-"))
}

// key changes when the image does: with its description, and with the size or
// the time of its program.
func (i Image) key() string {
	key := fmt.Sprintf("%+v", i)
	if info, err := os.Stat(i.Program); err == nil {
		key += fmt.Sprintf(" %d %s", info.Size(), info.ModTime())
	}
	return key
}

// write builds the image and stores it under dir.
func (i Image) write(ctx context.Context, dir string) error {
	files := append([]oci.File{{Path: i.Path, Mode: 0o755, Source: i.Program}}, i.Files...)
	for _, dir := range i.Trees {
		found, err := tree(dir)
		if err != nil {
			return err
		}
		files = append(files, found...)
	}
	if i.Shared {
		for _, program := range append([]string{i.Program}, i.Linked...) {
			libraries, err := sharedLibraries(ctx, program, files)
			if err != nil {
				return err
			}
			files = append(files, libraries...)
		}
	}
	for _, f := range i.Files {
		if filepath.Base(f.Path) == "busybox" {
			links, err := applets(ctx, f.Source, files)
			if err != nil {
				return err
			}
			files = append(files, links...)
		}
	}
	image, err := oci.Image(files, oci.Config{
		Platform:   v1.Platform{OS: "linux", Architecture: runtime.GOARCH},
		Entrypoint: i.Entrypoint,
		Env:        []string{"PATH=/usr/local/bin:/usr/bin:/bin"},
		User:       i.User,
	})
	if err != nil {
		return err
	}
	if err := os.RemoveAll(i.layout(dir)); err != nil {
		return fmt.Errorf("remove the old image: %w", err)
	}
	path, err := layout.Write(i.layout(dir), empty.Index)
	if err != nil {
		return fmt.Errorf("create the image's layout: %w", err)
	}
	return path.AppendImage(image)
}

// Push puts the image, made before under dir, into a registry, and sends
// nothing that is there.
func (i Image) Push(ctx context.Context, dir, registry string) error {
	index, err := layout.ImageIndexFromPath(i.layout(dir))
	if err != nil {
		return fmt.Errorf("open image %s: %w", i.Name, err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		return fmt.Errorf("read image %s: %w", i.Name, err)
	}
	if len(manifest.Manifests) != 1 {
		return fmt.Errorf("image %s: the layout holds %d images, want 1", i.Name, len(manifest.Manifests))
	}
	image, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return fmt.Errorf("read image %s: %w", i.Name, err)
	}
	_, err = oci.Push(ctx, registry+"/"+i.Name, image)
	return err
}

// sharedLibraries lists the libraries that program is linked with, and those
// that the C library loads by itself to look names up, in their own places, but
// for those that are in have.
func sharedLibraries(ctx context.Context, program string, have []oci.File) ([]oci.File, error) {
	out, err := exec.CommandContext(ctx, "ldd", program).Output()
	if err != nil {
		return nil, fmt.Errorf("list the libraries of %s: %w", program, err)
	}
	var files []oci.File
	var dir string
	for line := range strings.Lines(string(out)) {
		path := line
		if _, after, ok := strings.Cut(line, "=>"); ok {
			path = after
		}
		path, _, _ = strings.Cut(strings.TrimSpace(path), " ")
		if !filepath.IsAbs(path) {
			continue
		}
		path = filepath.Clean(path)
		if strings.HasPrefix(filepath.Base(path), "libc.so") {
			dir = filepath.Dir(path)
		}
		if !holds(have, path) {
			files = append(files, oci.File{Path: path, Mode: 0o755, Source: path})
		}
	}
	if dir == "" {
		return nil, fmt.Errorf("list the libraries of %s: no libc among them", program)
	}
	return append(files, nameServices(dir, append(have, files...))...), nil
}

// nameServices lists the name service libraries in dir that are not in have.
func nameServices(dir string, have []oci.File) []oci.File {
	var files []oci.File
	for _, name := range []string{"libnss_files.so.2", "libnss_dns.so.2", "libresolv.so.2"} {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err != nil || holds(have, path) {
			continue // newer C libraries hold these themselves
		}
		files = append(files, oci.File{Path: path, Mode: 0o755, Source: path})
	}
	return files
}

// applets links the names of busybox's commands to it, but for those that the
// image has in full.
func applets(ctx context.Context, busybox string, have []oci.File) ([]oci.File, error) {
	out, err := exec.CommandContext(ctx, busybox, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list busybox's commands: %w", err)
	}
	if len(out) == 0 {
		return nil, errors.New("busybox lists no commands")
	}
	var files []oci.File
	for name := range strings.FieldsSeq(string(out)) {
		path := "/bin/" + name
		if !holds(have, path) {
			files = append(files, oci.File{Path: path, Mode: fs.ModeSymlink | 0o777, Link: "/bin/busybox"})
		}
	}
	return files, nil
}

func holds(files []oci.File, path string) bool {
	for _, f := range files {
		if f.Path == path {
			return true
		}
	}
	return false
}
