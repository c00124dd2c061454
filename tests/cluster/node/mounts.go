package node

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// overlaid directories take the node's writes in a layer of the cluster's own,
// so that the node looks like any other from inside, and the machine keeps no
// trace, not even a mount point.
var overlaid = []string{"/etc", "/opt", "/var"}

// bound directories need a real file system, because their owner mounts
// overlays in them or measures the disk below them.
var bound = []string{"/var/lib/containerd", "/var/lib/kubelet"}

// pretended are the machine's settings that the kubelet would change for the
// whole machine, with the value it wants. It finds them as files and is content.
var pretended = map[string]string{
	"kernel/keys/root_maxbytes": "25000000",
	"kernel/keys/root_maxkeys":  "1000000",
	"kernel/panic":              "10",
	"kernel/panic_on_oops":      "1",
	"vm/overcommit_memory":      "1",
	"vm/panic_on_oom":           "0",
}

// mountAll makes this mount namespace the node's. /sys stays as it is: a fresh
// one would hide the cgroups.
func mountAll(p *plan.Plan) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range overlaid {
		if err := mountOverlay(p, dir); err != nil {
			return err
		}
	}
	if err := unix.Mount("tmpfs", "/run", "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := mountWholeProc(); err != nil {
		return err
	}
	for _, dir := range bound {
		if err := bind(p.Dir("data", filepath.Base(dir)), dir); err != nil {
			return err
		}
	}
	if err := pretend(p); err != nil {
		return err
	}
	// The kubelet and the container runtime pass mounts on to pods.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return fmt.Errorf("make the mounts shared inside the node: %w", err)
	}
	return nil
}

// mountWholeProc mounts a /proc that nothing covers: the kernel lets a user
// namespace, as that of a pod with hostUsers: false, mount one only where it could see
// all of one before. The node's own has pretended settings in it.
func mountWholeProc() error {
	const dir = "/run/proc"
	if err := os.Mkdir(dir, 0o555); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	if err := unix.Mount("proc", dir, "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount %s: %w", dir, err)
	}
	return nil
}

func mountOverlay(p *plan.Plan, dir string) error {
	name := strings.ReplaceAll(strings.Trim(dir, "/"), "/", "-")
	upper, work := p.Dir("overlay", name), p.Dir("overlay", "."+name)
	for _, d := range []string{upper, work} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("create the layer over %s: %w", dir, err)
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir, escape(upper), escape(work))
	if err := unix.Mount("overlay", dir, "overlay", 0, options); err != nil {
		return fmt.Errorf("mount the layer over %s: %w", dir, err)
	}
	return nil
}

// escape protects the characters that overlay's options give a meaning to.
func escape(path string) string {
	return strings.NewReplacer(`\`, `\\`, ",", `\,`, ":", `\:`).Replace(path)
}

// bind mounts from, made if missing, over the directory to, made likewise.
func bind(from, to string) error {
	for _, d := range []string{from, to} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("bind %s: %w", to, err)
		}
	}
	if err := unix.Mount(from, to, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s over %s: %w", from, to, err)
	}
	return nil
}

// pretend covers the settings of the whole machine with files.
func pretend(p *plan.Plan) error {
	for name, value := range pretended {
		setting := filepath.Join("/proc/sys", name)
		if _, err := os.Stat(setting); err != nil {
			continue // this kernel does not have it; the kubelet says so if it matters
		}
		file := p.Dir("sysctl", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return fmt.Errorf("cover %s: %w", setting, err)
		}
		if err := os.WriteFile(file, []byte(value+"\n"), 0o644); err != nil {
			return fmt.Errorf("cover %s: %w", setting, err)
		}
		if err := unix.Mount(file, setting, "", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("cover %s: %w", setting, err)
		}
	}
	return nil
}
