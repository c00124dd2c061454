package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// Collect writes what is needed to understand a failure to the folder dir: the
// logs of components and containers, objects and events, the pods' network,
// the rules of the node's and of each pod's network namespace, and what each
// Envoy says of itself. It writes all it can and returns what went wrong.
func (c *Cluster) Collect(ctx context.Context, dir string) error {
	pid, err := c.pid()
	if err != nil {
		return err
	}
	root, err := c.Root()
	if err != nil {
		return err
	}
	errs := []error{
		os.MkdirAll(dir, 0o755),
		copyFiles(filepath.Join(dir, "components"), c.Dir("logs")),
		copyFiles(filepath.Join(dir, "containers"), filepath.Join(root, "var/log/pods")),
		copyFiles(filepath.Join(dir, "cni"), filepath.Join(root, "etc/cni/net.d")),
		c.collectObjects(ctx, dir),
		output(ctx, filepath.Join(dir, "node-network.txt"), inNetwork(pid)),
	}
	client, err := c.Client()
	if err != nil {
		return errors.Join(append(errs, err)...)
	}
	pods, err := client.CoreV1().Pods("").List(ctx, metav1.ListOptions{})
	if err != nil {
		return errors.Join(append(errs, fmt.Errorf("list the pods: %w", err))...)
	}
	for _, pod := range pods.Items {
		if !pod.Spec.HostNetwork {
			errs = append(errs, collectPod(ctx, filepath.Join(dir, "pods", pod.Namespace+"_"+pod.Name), root, pod))
		}
	}
	return errors.Join(errs...)
}

// collectObjects writes what kubectl shows of the cluster.
func (c *Cluster) collectObjects(ctx context.Context, dir string) error {
	return errors.Join(
		output(ctx, filepath.Join(dir, "events.txt"), c.Kubectl(ctx, "get", "events", "-A", "--sort-by=.metadata.creationTimestamp").Args),
		output(ctx, filepath.Join(dir, "objects.txt"), c.Kubectl(ctx, "get", "all,ingress,endpointslices,configmaps", "-A", "-o", "wide").Args),
		output(ctx, filepath.Join(dir, "pods.yaml"), c.Kubectl(ctx, "get", "pods,services,deployments", "-A", "-o", "yaml").Args),
		output(ctx, filepath.Join(dir, "webhooks.yaml"), c.Kubectl(ctx, "get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "yaml").Args),
	)
}

// collectPod writes the rules in the pod's network namespace, and what its
// Envoy, if it has one, says on its admin socket.
func collectPod(ctx context.Context, dir, root string, pod corev1.Pod) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("create the folder of a pod: %w", err)
	}
	var errs []error
	if pid := podProcess(string(pod.UID)); pid != "" {
		errs = append(errs, output(ctx, filepath.Join(dir, "network.txt"), inNetwork(pid)))
	}
	sockets, err := filepath.Glob(filepath.Join(root, "var/lib/kubelet/pods", string(pod.UID), "volumes/kubernetes.io~empty-dir/*/admin.sock"))
	errs = append(errs, err)
	for _, socket := range sockets {
		for _, path := range []string{"config_dump?include_eds", "clusters", "listeners", "stats", "server_info"} {
			name, _, _ := strings.Cut(path, "?")
			errs = append(errs, askEnvoy(ctx, socket, path, filepath.Join(dir, "envoy-"+name+".txt")))
		}
	}
	return errors.Join(errs...)
}

// podProcess is the PID on the machine of a process of the pod, empty if there
// is none.
func podProcess(uid string) string {
	files, err := filepath.Glob("/proc/[0-9]*/cgroup")
	if err != nil {
		return ""
	}
	for _, f := range files {
		if cgroups, err := os.ReadFile(f); err == nil && strings.Contains(string(cgroups), "pod"+uid) {
			return filepath.Base(filepath.Dir(f))
		}
	}
	return ""
}

// inNetwork is the command that shows the network namespace of a process.
func inNetwork(pid any) []string {
	show := "ip address; echo; ip route; ip -6 route; echo; nft list ruleset; command -v iptables-save >/dev/null && { iptables-save; ip6tables-save; }"
	return []string{"nsenter", "--target", fmt.Sprint(pid), "--net", "--", "sh", "-c", show}
}

// askEnvoy writes the answer of an Envoy's admin socket to a file.
func askEnvoy(ctx context.Context, socket, path, to string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	short, dir, err := node.ShortPath(socket)
	if err != nil {
		return err
	}
	defer dir.Close()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", short)
	}}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://envoy/"+path, nil)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return fmt.Errorf("ask Envoy: %w", err)
	}
	defer response.Body.Close()
	file, err := os.Create(to)
	if err != nil {
		return fmt.Errorf("write Envoy's answer: %w", err)
	}
	defer file.Close()
	_, err = io.Copy(file, response.Body)
	return err
}

// output writes what a command prints to a file.
func output(ctx context.Context, to string, args []string) error {
	out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(args, " "), err)
	}
	return errors.Join(err, os.WriteFile(to, out, 0o644))
}
