package build

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Versions of what is built.
const (
	KubernetesVersion  = "v1.36.3"
	ContainerdVersion  = "v2.4.2"
	CNIVersion         = "v1.9.1"
	HelmVersion        = "v4.3.1"
	CraneVersion       = "v0.22.1"
	CoreDNSVersion     = "v1.14.7"
	CertManagerVersion = "v1.21.2"
	EnvoyVersion       = "v1.40.0"
	ZipkinVersion      = "3.5.1"
	PebbleVersion      = "v2.10.1"
	RuncVersion        = "v1.5.2"
	// PrometheusVersion is that of the program and of its image; its Go module is v0.316.0.
	PrometheusVersion = "v3.16.0"
	prometheusModule  = "v0.316.0"
)

// program is a Go program: its file name in the directory of programs, and its
// package.
type program struct{ file, pkg string }

// module is a Go module whose programs are built together.
type module struct {
	name     string
	dir      string // relative to tests: a module of this repository; or else
	version  string // of a published module, of which packages are installed
	tags     string
	ldflags  string
	programs []program
	source   string // relative to tests: what the programs depend on; default dir
	c        bool   // parts of it are written in C
}

// goEnv makes static programs that do not depend on this repository's workspace.
var goEnv = []string{"GOWORK=off", "CGO_ENABLED=0"}

// modules lists the Go programs, the slowest first.
func modules() []module {
	version := "k8s.io/component-base/version"
	kubernetes := func(name string) program { return program{name, "k8s.io/kubernetes/cmd/" + name} }
	plugin := func(path string) program {
		return program{"cni/" + filepath.Base(path), "github.com/containernetworking/plugins/plugins/" + path}
	}
	return []module{
		{
			name: "kubernetes", dir: "cluster/kubernetes",
			ldflags: fmt.Sprintf("-X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=1 -X %[1]s.gitMinor=36 -X %[1]s.gitTreeState=clean", version, KubernetesVersion),
			programs: []program{
				kubernetes("kube-apiserver"), kubernetes("kube-controller-manager"), kubernetes("kube-scheduler"),
				kubernetes("kubelet"), kubernetes("kube-proxy"), kubernetes("kubectl"),
				{"etcd", "go.etcd.io/etcd/server/v3"},
			},
		},
		{
			name: "containerd", version: ContainerdVersion, tags: "no_btrfs no_devmapper no_zfs",
			programs: []program{
				{"containerd", "github.com/containerd/containerd/v2/cmd/containerd"},
				{"containerd-shim-runc-v2", "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"},
				{"ctr", "github.com/containerd/containerd/v2/cmd/ctr"},
			},
		},
		{
			name: "cert-manager", dir: "cluster/certmanager",
			programs: []program{{"cert-manager-controller", "./controller"}, {"cert-manager-cainjector", "./cainjector"}, {"cert-manager-acmesolver", "./acmesolver"}},
		},
		{name: "helm", version: HelmVersion, programs: []program{{"helm", "helm.sh/helm/v4/cmd/helm"}}},
		{
			// Of its many service discoveries it needs one; the others are most of what there is to compile.
			name: "prometheus", version: prometheusModule, tags: "remove_all_sd enable_kubernetes_sd",
			ldflags: "-X github.com/prometheus/common/version.Version=" + strings.TrimPrefix(PrometheusVersion, "v"),
			programs: []program{
				{"prometheus", "github.com/prometheus/prometheus/cmd/prometheus"},
				{"promtool", "github.com/prometheus/prometheus/cmd/promtool"},
			},
		},
		{name: "coredns", dir: "cluster/coredns", programs: []program{{"coredns", "."}}},
		{name: "crane", version: CraneVersion, programs: []program{{"crane", "github.com/google/go-containerregistry/cmd/crane"}}},
		{name: "cni", version: CNIVersion, programs: []program{
			plugin("main/bridge"), plugin("main/ptp"), plugin("main/loopback"), plugin("ipam/host-local"), plugin("meta/portmap"),
		}},
		{name: "pause", dir: ".", source: "cluster/cmd/pause", programs: []program{{"pause", "./cluster/cmd/pause"}}},
	}
}

// module builds m alone, which not every cluster needs.
func (b *Builder) module(ctx context.Context, m module) error {
	goVersion, err := command(ctx, b.Root, nil, "go", "env", "GOVERSION")
	if err != nil {
		return err
	}
	step, err := b.goStep(m, goVersion)
	if err != nil {
		return err
	}
	return b.Do(ctx, []Step{step})
}

// goStep is the step that builds m.
func (b *Builder) goStep(m module, goVersion string) (Step, error) {
	key := strings.Join([]string{goVersion, m.version, m.tags, m.ldflags, fmt.Sprint(m.programs)}, "\n")
	dir := filepath.Join(b.Root, "tests", m.dir)
	if m.dir != "" {
		hash, err := hashDir(filepath.Join(b.Root, "tests", cmp.Or(m.source, m.dir)))
		if err != nil {
			return Step{}, fmt.Errorf("read the sources of %s: %w", m.name, err)
		}
		key += "\n" + hash
	}
	s := Step{Name: m.name, Key: key, Run: func(ctx context.Context) error { return b.buildGo(ctx, m, dir) }}
	for _, p := range m.programs {
		s.Result = append(s.Result, filepath.Join(b.Bin, p.file))
	}
	return s, nil
}

// buildGo builds the programs of m into a directory beside the others and
// moves them to their places.
func (b *Builder) buildGo(ctx context.Context, m module, dir string) error {
	out, err := os.MkdirTemp(b.Bin, ".build-")
	if err != nil {
		return fmt.Errorf("make a build directory: %w", err)
	}
	defer os.RemoveAll(out)
	args := []string{"-trimpath", "-tags=" + m.tags, "-ldflags=-s -w " + m.ldflags}
	env := goEnv
	if m.c {
		env = append(slices.Clone(env), "CGO_ENABLED=1")
	}
	if m.dir != "" {
		args = slices.Concat([]string{"go", "build", "-o", out + "/"}, args)
	} else {
		args = slices.Concat([]string{"go", "install"}, args)
		env = append(slices.Clone(env), "GOBIN="+out)
		dir = out // outside every module
	}
	for _, p := range m.programs {
		if m.dir == "" {
			p.pkg += "@" + m.version
		}
		args = append(args, p.pkg)
	}
	if _, err := command(ctx, dir, env, args...); err != nil {
		return err
	}
	return b.place(out, m.programs)
}

// place moves built programs from out to their own names.
func (b *Builder) place(out string, programs []program) error {
	for _, p := range programs {
		to := filepath.Join(b.Bin, p.file)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return fmt.Errorf("place %s: %w", p.file, err)
		}
		if err := os.Rename(filepath.Join(out, builtName(p)), to); err != nil {
			return fmt.Errorf("place %s: %w", p.file, err)
		}
	}
	return nil
}

// builtName is the file name that Go gives to the program: the last element of
// its package's path that is not a major version.
func builtName(p program) string {
	base := filepath.Base(p.pkg)
	switch base {
	case ".":
		return p.file
	case "v3":
		return filepath.Base(filepath.Dir(p.pkg))
	}
	return base
}
