package build

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// A stale program, or a half-built one taken for whole, makes tests lie.
func TestStepsRunWhenNeeded(t *testing.T) {
	dir := t.TempDir()
	b := &Builder{Bin: filepath.Join(dir, "bin"), Timed: func(ctx context.Context, _ string, run func(context.Context) error) error { return run(ctx) }}
	result := filepath.Join(dir, "program")
	runs := 0
	var fail error
	do := func(key string) error {
		return b.Do(t.Context(), []Step{{Name: "s", Key: key, Result: []string{result}, Run: func(context.Context) error {
			runs++
			return errors.Join(fail, os.WriteFile(result, []byte(key), 0o755))
		}}})
	}
	expect := func(what string, err error, want int) {
		t.Helper()
		if err != nil && fail == nil {
			t.Errorf("%s: %v", what, err)
		}
		if runs != want {
			t.Errorf("%s: ran %d times, want %d", what, runs, want)
		}
	}
	expect("first", do("v1"), 1)
	expect("again", do("v1"), 1)
	expect("another version", do("v2"), 2)
	if err := os.Remove(result); err != nil {
		t.Fatal(err)
	}
	expect("result is gone", do("v2"), 3)
	fail = errors.New("compiler says no")
	expect("fails", do("v3"), 4)
	fail = nil
	expect("old version after a failure", do("v2"), 5)
}

// .local outlives its machine, in a container for one: on the next machine the
// packages are not there, whatever an earlier run has left in .local.
func TestPackagesAreInstalledWhereTheyAreMissing(t *testing.T) {
	machine, log := t.TempDir(), filepath.Join(t.TempDir(), "log")
	t.Setenv("PATH", machine)
	place(t, machine, "apt-get", "#!/bin/sh\necho \"$@\" >>"+log+"\n")
	for _, d := range debian {
		if d.pkg != "kmod" && d.pkg != "iproute2" {
			place(t, machine, d.program, "")
		}
	}
	b := &Builder{Bin: t.TempDir(), Timed: func(ctx context.Context, _ string, run func(context.Context) error) error { return run(ctx) }}
	if err := os.MkdirAll(filepath.Join(b.Bin, ".stamps"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.stamp(Step{Name: "debian"}), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	expect := func(want string) {
		t.Helper()
		// It stops at the version of Go, which this machine does not have.
		if err := b.Programs(t.Context()); err == nil {
			t.Fatal("built without Go")
		}
		got, err := os.ReadFile(log)
		if err != nil || string(got) != want {
			t.Errorf("apt-get was called with %q, %v, want %q", got, err, want)
		}
	}
	calls := "update -q\ninstall -q -y --no-install-recommends kmod iproute2\n"
	expect(calls)
	for _, d := range debian {
		place(t, machine, d.program, "")
	}
	expect(calls) // nothing more
}

func place(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

// A fresh Debian has Go, Python, git and make beside its own. A program that a
// test runs and nothing installs is there only by chance.
func TestProgramsThatTestsRunAreInstalled(t *testing.T) {
	own := []string{"go", "ldd", "/bin/true", "sh", "cat", "nsenter", "apt-get"} // every Debian has these
	for _, d := range debian {
		own = append(own, d.program)
	}
	run := regexp.MustCompile(`exec\.Command(?:Context\([\w.()]+, |\()"([^"]+)"`)
	found := 0
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range run.FindAllStringSubmatch(string(source), -1) {
			found++
			if !slices.Contains(own, match[1]) {
				t.Errorf("%s runs %s, which no package of debian brings", path, match[1])
			}
		}
		return err
	})
	if err != nil || found < 5 {
		t.Errorf("found %d programs, %v", found, err)
	}
}

// The names that Go gives to programs are not always those that users know.
func TestBuiltName(t *testing.T) {
	for p, want := range map[program]string{
		{"etcd", "go.etcd.io/etcd/server/v3"}:        "server",
		{"kubelet", "k8s.io/kubernetes/cmd/kubelet"}: "kubelet",
		{"cert-manager-controller", "./controller"}:  "controller",
		{"coredns", "."}: "coredns",
		{"cni/bridge", "github.com/x/plugins/plugins/main/bridge"}: "bridge",
	} {
		if got := builtName(p); got != want {
			t.Errorf("%v is built as %s, want %s", p, got, want)
		}
	}
}
