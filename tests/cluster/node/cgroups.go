package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// unified is where a machine with cgroup v2 alone mounts it.
const unified = "/sys/fs/cgroup"

// hierarchy is one mounted cgroup file system.
type hierarchy struct {
	path string
	v2   bool
}

// CreateCgroups makes the cluster's cgroup in every hierarchy of the machine,
// v1, v2 or both. It is the kubelet's root: a missing one stops the kubelet.
func CreateCgroups(p *plan.Plan) error {
	hierarchies, err := hierarchies()
	if err != nil {
		return err
	}
	for _, h := range hierarchies {
		if h.v2 && h.path != unified {
			continue // hybrid: v1 has the controllers, the runtime makes what it needs
		}
		if err := os.Mkdir(filepath.Join(h.path, p.Cgroup()), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("create cgroup %s in %s: %w", p.Cgroup(), h.path, err)
		}
		if !h.v2 {
			continue
		}
		if err := delegate(h.path, filepath.Join(h.path, p.Cgroup())); err != nil {
			return err
		}
	}
	return nil
}

// delegate enables every controller of the v2 cgroup root for child's children.
func delegate(root, child string) error {
	for _, dir := range []string{root, child} {
		controllers, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if err != nil {
			return fmt.Errorf("read the controllers of cgroup %s: %w", dir, err)
		}
		for _, c := range strings.Fields(string(controllers)) {
			if err := os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0o644); err != nil {
				return fmt.Errorf("enable controller %s in cgroup %s: %w", c, dir, err)
			}
		}
	}
	return nil
}

// RemoveCgroups removes the cluster's cgroups. Its processes must be gone; the
// kernel may take a moment to notice, for which it waits up to five seconds.
func RemoveCgroups(p *plan.Plan) error {
	hierarchies, err := hierarchies()
	if err != nil {
		return err
	}
	deadline := time.Now().Add(5 * time.Second)
	for _, h := range hierarchies {
		dir := filepath.Join(h.path, p.Cgroup())
		err := removeTree(dir)
		for err != nil && time.Now().Before(deadline) {
			time.Sleep(20 * time.Millisecond) // a cgroup has no event for becoming empty that v1 can wait for
			err = removeTree(dir)
		}
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}

// removeTree removes the cgroup dir and those below it, the deepest first.
func removeTree(dir string) error {
	var dirs []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	})
	for _, d := range slices.Backward(dirs) {
		if rmErr := os.Remove(d); rmErr != nil && !errors.Is(rmErr, fs.ErrNotExist) {
			return rmErr
		}
	}
	return err
}

// hierarchies lists the mounted cgroup file systems.
func hierarchies() ([]hierarchy, error) {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return nil, fmt.Errorf("list the cgroup hierarchies: %w", err)
	}
	var found []hierarchy
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if len(f) > 2 && (f[2] == "cgroup" || f[2] == "cgroup2") {
			found = append(found, hierarchy{path: f[1], v2: f[2] == "cgroup2"})
		}
	}
	if len(found) == 0 {
		return nil, errors.New("no cgroup hierarchy is mounted on this machine; mount one at " + unified)
	}
	return found, nil
}
