package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// crash is the script command "crash NAMESPACE SELECTOR CONTAINER": it kills the container's processes in every selected
// pod, as the kernel does when memory runs out. Processes of the local cluster are processes of this machine. Without
// arguments it kills what "aim" found.
func (l local) crash(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 && len(args) != 0 {
		ts.Fatalf("usage: crash [namespace selector container]")
	}
	if len(args) > 0 {
		l.aim(ts, false, args)
	}
	ts.Check(killAll(aims(ts, containers)...))
}

// killAll kills every process of containers, all at once: a proxy must not find the next one that is to go.
func killAll(containerIDs ...string) error {
	var all []int
	for _, id := range containerIDs {
		pids, err := processes(id)
		if err != nil {
			return err
		}
		all = append(all, pids...)
	}
	for _, pid := range all {
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return err
		}
	}
	return nil
}

// containers and networks are the environment variables in which "aim" leaves what it found.
const containers, networks = "CONTAINERS", "NETWORKS"

// aim is the script command "aim NAMESPACE SELECTOR CONTAINER": it finds the container in every selected pod, for "crash", and
// the network of these, for "cut", "lost" and "heal", which may follow when there is no API to ask.
func (l local) aim(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: aim namespace selector container")
	}
	client, err := l.cluster.Client()
	ts.Check(err)
	pods, err := client.CoreV1().Pods(args[0]).List(context.Background(), metav1.ListOptions{LabelSelector: args[1]})
	ts.Check(err)
	root, err := l.cluster.Root()
	ts.Check(err)
	var found, paths []string
	for _, pod := range pods.Items {
		path, err := networkNamespace(root, &pod)
		ts.Check(err)
		paths = append(paths, path)
		for _, status := range append(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses...) {
			if status.Name == args[2] {
				found = append(found, strings.TrimPrefix(status.ContainerID, "containerd://"))
			}
		}
	}
	if len(found) == 0 {
		ts.Fatalf("no pod %s in namespace %s has a container %s", args[1], args[0], args[2])
	}
	ts.Setenv(containers, strings.Join(found, " "))
	ts.Setenv(networks, strings.Join(paths, " "))
}

// aims are what "aim" found.
func aims(ts *testscript.TestScript, of string) []string {
	found := strings.Fields(ts.Getenv(of))
	if len(found) == 0 {
		ts.Fatalf("aim comes first")
	}
	return found
}

// processes are the PIDs on this machine of a container of the local cluster: those in its cgroup.
func processes(containerID string) (pids []int, err error) {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(text, []byte(containerID)) {
			continue // a process that ended meanwhile has no cgroup to read
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		pids = append(pids, pid)
	}
	if len(pids) == 0 {
		return nil, fmt.Errorf("no process runs in container %s", containerID)
	}
	return pids, nil
}

// unchain is the script command "unchain": it takes our plugin out of the node's CNI configuration, as a network add-on
// does that writes its own file anew.
func (l local) unchain(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: unchain")
	}
	root, err := l.cluster.Root()
	ts.Check(err)
	files, err := filepath.Glob(filepath.Join(root, "etc/cni/net.d/*.conflist"))
	ts.Check(err)
	for _, file := range files {
		ts.Check(unchainFile(file))
	}
}

func unchainFile(file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var list map[string]any
	if err := json.Unmarshal(text, &list); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	plugins, ok := list["plugins"].([]any)
	if !ok {
		return fmt.Errorf("%s: no plugins", file)
	}
	kept := slices.DeleteFunc(slices.Clone(plugins), func(p any) bool {
		entry, ok := p.(map[string]any)
		return ok && entry["type"] == "traffic-cni"
	})
	if len(kept) == len(plugins) {
		return fmt.Errorf("%s: our plugin is not in it", file)
	}
	list["plugins"] = kept
	text, err = json.Marshal(list)
	if err != nil {
		return err
	}
	return os.WriteFile(file, text, 0o644)
}
