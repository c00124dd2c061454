package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// traces is the environment variable in which "network" leaves the pod's paths for "gone".
const traces = "NETWORK"

// network is the script command "network POD": it prints, and leaves for "gone", where the node keeps the network of a pod
// of the script's namespace: libcni's results, and the network namespaces that they name.
func (l local) network(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: network pod")
	}
	root, err := l.cluster.Root()
	ts.Check(err)
	paths, err := networkOf(root, ts.Getenv("NAMESPACE"), args[0])
	ts.Check(err)
	ts.Setenv(traces, strings.Join(paths, "\n"))
	_, err = fmt.Fprintln(ts.Stdout(), strings.Join(paths, "\n"))
	ts.Check(err)
}

// networkOf are the paths of a pod's network: at least a result and a network namespace, which are there.
func networkOf(root, namespace, pod string) ([]string, error) {
	results, err := filepath.Glob(filepath.Join(root, "var/lib/cni/results/*"))
	if err != nil {
		return nil, err
	}
	found := map[string]bool{}
	for _, file := range results {
		text, err := os.ReadFile(file)
		if err != nil {
			continue // of a pod that has gone meanwhile
		}
		var result struct {
			Netns   string      `json:"netns"`
			CNIArgs [][2]string `json:"cniArgs"`
		}
		if err := json.Unmarshal(text, &result); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if slices.Contains(result.CNIArgs, [2]string{"K8S_POD_NAMESPACE", namespace}) &&
			slices.Contains(result.CNIArgs, [2]string{"K8S_POD_NAME", pod}) {
			found[file] = true
			found[filepath.Join(root, "run/netns", filepath.Base(result.Netns))] = true
		}
	}
	for path := range found {
		if _, err := os.Lstat(path); err != nil {
			return nil, err
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("the node knows no network of pod %s in namespace %s", pod, namespace)
	}
	return slices.Sorted(maps.Keys(found)), nil
}

// gone is the script command "gone": it fails unless all that "network" printed goes away.
func (l local) gone(ts *testscript.TestScript, neg bool, args []string) {
	paths := strings.Fields(ts.Getenv(traces))
	if neg || len(args) != 0 || len(paths) == 0 {
		ts.Fatalf("usage: gone, after network pod")
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		paths = slices.DeleteFunc(paths, func(path string) bool {
			_, err := os.Lstat(path)
			return os.IsNotExist(err)
		})
		if len(paths) == 0 {
			return
		}
		if time.Now().After(deadline) {
			ts.Fatalf("the node still has %s", strings.Join(paths, ", "))
		}
	}
}
