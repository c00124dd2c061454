package node

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fsnotify/fsnotify"
)

// Between the last look at a file and its replacement nothing is left to do that
// takes time; and a write that is called off leaves nothing behind.
func TestLooksRightBeforeReplacing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "10-a.conflist")
	write(t, path, []byte("old"), 0o644)
	err := writeFile(path, []byte("new"), 0o600, nil, func() error {
		temp, err := filepath.Glob(filepath.Join(dir, tempPattern))
		if err != nil || len(temp) != 1 {
			t.Fatalf("temporary files %v, %v", temp, err)
		}
		if data, err := os.ReadFile(temp[0]); err != nil || string(data) != "new" {
			t.Errorf("asked before everything is written: %s, %v", data, err)
		}
		return errChanged
	})
	if !errors.Is(err, errChanged) {
		t.Error(err)
	}
	if got := snapshot(t, dir); len(got) != 1 || got["10-a.conflist"] != "-rw-r--r--\nold" {
		t.Errorf("the folder is %v", got)
	}
}

// The agent watches the folders that it writes to: a write that fails must not be
// the event that leads to the next attempt.
func TestFailedWriteIsNoEvent(t *testing.T) {
	dir := t.TempDir()
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		t.Fatal(err)
	}
	defer watcher.Close()
	if err := watcher.Add(dir); err != nil {
		t.Fatal(err)
	}
	if err := writeFile(filepath.Join(dir, "10-a.conflist"), []byte("new"), 0o600, nil, func() error { return errChanged }); err == nil {
		t.Fatal("written")
	}
	last := filepath.Join(dir, "20-b.conflist")
	write(t, last, []byte("{}"), 0o644)
	seen := 0
	for event := range watcher.Events {
		if event.Name == last {
			break
		}
		if seen++; !isTemporary(event.Name) {
			t.Errorf("%v leads to another attempt", event)
		}
	}
	if seen == 0 || isTemporary(last) {
		t.Errorf("%d events of the failed write; one of another program counts: %v", seen, !isTemporary(last))
	}
}

// The binary that pods start with is never missing, half written or not
// executable, and a write that was cut off leaves nothing behind.
func TestInstallBinary(t *testing.T) {
	dir := t.TempDir()
	source, path := filepath.Join(dir, "source"), filepath.Join(dir, "bin", "traffic-cni")
	write(t, source, []byte("release 1"), 0o600)
	write(t, filepath.Join(dir, "bin", ".traffic-cni-123.tmp"), []byte("rel"), 0o600)
	if err := removeLeftovers(filepath.Dir(path)); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name      string
		do        func()
		installed bool
	}{
		{"first time", func() {}, true},
		{"again", func() {}, false},
		{"removed", func() { os.Remove(path) }, true},
		{"overwritten", func() { write(t, path, []byte("other"), 0o755) }, true},
		{"not executable", func() { os.Chmod(path, 0o644) }, true},
		{"link to it", func() { os.Remove(path); os.Symlink(source, path) }, true},
		{"new release", func() { write(t, source, []byte("release 2"), 0o600) }, true},
		{"again", func() {}, false},
	} {
		step.do()
		installed, err := installBinary(source, path)
		if err != nil || installed != step.installed {
			t.Errorf("%s: installed %v, %v", step.name, installed, err)
		}
		want, _ := os.ReadFile(source)
		if got := snapshot(t, filepath.Dir(path)); len(got) != 1 || got["traffic-cni"] != "-rwxr-xr-x\n"+string(want) {
			t.Errorf("%s: folder is %v", step.name, got)
		}
	}
	if _, err := installBinary(filepath.Join(dir, "missing"), path); err == nil {
		t.Error("a missing source is no error")
	}
}
