package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
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
