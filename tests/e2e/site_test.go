package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
)

// A site is a cluster of one test's own, without the product.
type site struct {
	cluster *cluster.Cluster
	client  kubernetes.Interface
	// node is the node's file system.
	node string
	// images is a values file that names the product's images.
	images string
}

// newSite starts a cluster that ends with the test, and pushes the product's images to its registry.
func newSite(t *testing.T, name string) *site {
	t.Helper()
	c, err := cluster.New(cluster.Options{Name: name, State: "../../.local", Log: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := c.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { collect(t, c) })
	s := &site{cluster: c}
	if s.client, err = c.Client(); err != nil {
		t.Fatal(err)
	}
	if s.node, err = c.Root(); err != nil {
		t.Fatal(err)
	}
	s.images = s.pushImages(t, "../..")
	return s
}

// pushImages builds the images of the sources in a folder, and returns a values file that names them.
func (s *site) pushImages(t *testing.T, folder string, arguments ...string) (values string) {
	t.Helper()
	values = filepath.Join(t.TempDir(), "images.yaml")
	build := exec.CommandContext(t.Context(), "go", append([]string{
		"run", "./tools/image", "-registry", s.cluster.MachineRegistry(), "-values", values,
	}, arguments...)...)
	build.Dir = folder
	build.Stderr = t.Output()
	output(t, build)
	text, err := os.ReadFile(values)
	if err != nil {
		t.Fatal(err)
	}
	// The node knows its registry by another name than the machine.
	text = bytes.ReplaceAll(text, []byte(s.cluster.MachineRegistry()+"/"), []byte("localhost:5000/"))
	if err := os.WriteFile(values, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return values
}

// collect writes what explains a failure.
func collect(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	if !t.Failed() {
		return
	}
	folder := c.Shared("failures", time.Now().Format("20060102-150405")+"-"+c.Name)
	err := c.Collect(context.WithoutCancel(t.Context()), folder)
	t.Logf("what explains the failure is in %s (error: %v)", folder, err)
}

func (s *site) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, s.cluster.Kubectl(t.Context(), args...))
}

func (s *site) apply(t *testing.T, manifest string) {
	t.Helper()
	apply := s.cluster.Kubectl(t.Context(), "apply", "-f", "-")
	apply.Stdin = strings.NewReader(manifest)
	output(t, apply)
}

func (s *site) helm(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, s.helmCommand(t, args...))
}

func (s *site) helmCommand(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	helm := exec.CommandContext(t.Context(), s.cluster.Bin("helm"), append([]string{"--kubeconfig", s.cluster.Kubeconfig()}, args...)...)
	helm.Dir = "../.."
	return helm
}

// pods are those of the release, but for those that are on their way out: the gateway's may drain for a minute and more.
func (s *site) pods(t *testing.T) []corev1.Pod {
	t.Helper()
	pods, err := s.client.CoreV1().Pods(release).List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/instance=traffic"})
	if err != nil {
		t.Fatal(err)
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool { return pod.DeletionTimestamp != nil })
}

// status is the HTTP status, 000 without an answer, that a pod's container app gets.
func (s *site) status(t *testing.T, namespace, pod, url string) string {
	t.Helper()
	curl := s.cluster.Kubectl(t.Context(), "exec", "-n", namespace, pod, "-c", "app", "--",
		"sh", "-c", fmt.Sprintf("curl -s -m 5 -o /dev/null -w '%%{http_code}' %q || true", url))
	return output(t, curl)
}

// output runs a command that must succeed.
func output(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var complaint bytes.Buffer
	if cmd.Stderr == nil {
		cmd.Stderr = &complaint
	}
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, complaint.String())
	}
	return strings.TrimSpace(string(out))
}

// eventually waits for what the cluster is bound to do, on a machine that may be busy with other things.
func eventually(t *testing.T, want string, get func() string) {
	t.Helper()
	const limit = 3 * time.Minute
	var got string
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if got = get(); got == want {
			return
		}
	}
	t.Fatalf("got %q, and not %q in %s", got, want, limit)
}
