package cluster

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// A machine whose limits are not what they were before the cluster behaves
// differently for everything else on it.
func TestSettingIsRestored(t *testing.T) {
	for _, test := range []struct{ before, during string }{
		{"128\n", "8192"},      // too low: raised, and put back
		{"8192\n", "8192\n"},   // high enough: not touched
		{"65536\n", "65536\n"}, // higher: not lowered
	} {
		dir := t.TempDir()
		s := setting{filepath.Join(dir, "limit"), 8192, filepath.Join(dir, "record")}
		write(t, s.file, test.before)
		for range 2 { // the second up must not take the raised limit for the machine's own
			if err := s.raise(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s.file); got != test.during {
				t.Errorf("limit %q raised to %q, want %q", test.before, got, test.during)
			}
		}
		for range 2 {
			if err := s.restore(); err != nil {
				t.Fatal(err)
			}
			if got := read(t, s.file); got != test.before {
				t.Errorf("limit %q restored to %q", test.before, got)
			}
		}
	}
}

// The second of two clusters must not pull a limit away under the first.
func TestAlone(t *testing.T) {
	c, err := New(Options{Name: "one", State: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	expect := func(want bool) {
		t.Helper()
		if got, err := c.alone(); err != nil || got != want {
			t.Errorf("alone is %t, %v, want %t", got, err, want)
		}
	}
	expect(true)
	other := filepath.Join(c.State, "other")
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(other, "node.pid"), "1 1") // a process of that PID that has ended
	expect(true)
	write(t, filepath.Join(other, "node.pid"), recordOfThisProcess(t))
	expect(false)
}

func recordOfThisProcess(t *testing.T) string {
	t.Helper()
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		t.Fatal(err)
	}
	start, err := node.StartTime(pid)
	if err != nil {
		t.Fatal(err)
	}
	return pid + " " + start
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
