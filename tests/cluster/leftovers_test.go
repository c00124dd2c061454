package cluster_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
)

// machine is what a cluster could leave on the machine, by the name of the thing.
type machine map[string]string

// volatile settings change by themselves.
var volatile = regexp.MustCompile(`^(kernel/(random|ns_last_pid|pty)|fs/(dentry|inode|file-nr|aio-nr|quota)|net/netfilter/nf_conntrack_count|kernel/sched|vm/stat_refresh|net/ipv[46]/(conf|neigh)/)`)

// snapshot reads the machine's state, except what belongs to the clusters in
// others, which run meanwhile.
func snapshot(t *testing.T, others ...*cluster.Cluster) machine {
	t.Helper()
	m := machine{}
	read := func(name string) {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		m[name] = string(content)
	}
	read("/proc/self/mountinfo")
	for _, args := range []string{"ip -o link", "ip -o address", "ip route", "ip -6 route", "ip netns", "nft list ruleset", "iptables-legacy-save", "ip6tables-legacy-save"} {
		m[args] = command(t, strings.Fields(args)...)
	}
	m["processes"] = processes(t, others)
	settings(t, m)
	cgroups(t, m, others)
	return m
}

// command is what a program prints, without the columns that only count time;
// nothing if the machine does not have it.
func command(t *testing.T, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(args[0]); err != nil {
		return ""
	}
	out, err := exec.Command(args[0], args[1:]...).Output()
	if err != nil {
		t.Fatalf("%v: %v", args, err)
	}
	return regexp.MustCompile(`(?m)(^#.*$| valid_lft .*$|expires \S+|\[\d+:\d+\])`).ReplaceAllString(string(out), "")
}

// processes lists those that are in a PID namespace of a cluster's, or in a
// cluster's cgroup.
func processes(t *testing.T, others []*cluster.Cluster) string {
	t.Helper()
	machine, err := os.Readlink("/proc/self/ns/pid")
	must(t, err)
	dirs, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	var found []string
	for _, dir := range dirs {
		namespace, err := os.Readlink(filepath.Join(dir, "ns", "pid"))
		if err != nil {
			continue // gone meanwhile
		}
		cgroup, err := os.ReadFile(filepath.Join(dir, "cgroup"))
		if err != nil || belongs(namespace, string(cgroup), others) {
			continue
		}
		if namespace != machine || strings.Contains(string(cgroup), "/traffic-") {
			line, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
			found = append(found, strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
	return strings.Join(found, "\n")
}

// belongs reports whether a process is in the PID namespace or below the cgroup
// of one of the clusters.
func belongs(namespace, cgroup string, clusters []*cluster.Cluster) bool {
	for _, c := range clusters {
		record, err := os.ReadFile(c.Dir("node.pid"))
		if err != nil {
			continue
		}
		pid, _, _ := strings.Cut(string(record), " ")
		own, _ := os.Readlink("/proc/" + pid + "/ns/pid")
		if own == namespace || strings.Contains(cgroup, c.Cgroup()+"/") {
			return true
		}
	}
	return false
}

// oddSetting gives a machine's setting that the kubelet would change a value
// that nobody has, so that a change shows even if another kubelet made it
// before.
func oddSetting(t *testing.T) {
	t.Helper()
	const file = "/proc/sys/kernel/panic"
	own, err := os.ReadFile(file)
	must(t, err)
	must(t, os.WriteFile(file, []byte("7"), 0o644))
	t.Cleanup(func() { must(t, os.WriteFile(file, own, 0o644)) })
}

// settings adds the machine's kernel settings.
func settings(t *testing.T, m machine) {
	t.Helper()
	err := fs.WalkDir(os.DirFS("/proc/sys"), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || volatile.MatchString(path) {
			return nil
		}
		if content, err := os.ReadFile(filepath.Join("/proc/sys", path)); err == nil {
			m["/proc/sys/"+path] = string(content)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// cgroups adds the cgroups of every hierarchy that hold no process: what is left of a cluster is empty, its processes are
// looked for by themselves, and others on the machine come and go with theirs.
func cgroups(t *testing.T, m machine, others []*cluster.Cluster) {
	t.Helper()
	err := filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		for _, c := range others {
			if strings.HasSuffix(path, c.Cgroup()) {
				return fs.SkipDir
			}
		}
		if pids, err := os.ReadFile(filepath.Join(path, "cgroup.procs")); err != nil || len(pids) == 0 {
			m["cgroup "+path] = "there"
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
