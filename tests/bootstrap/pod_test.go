// Package bootstrap_test runs what webhook/inject puts into a pod: a real Envoy with the bootstrap, in a network namespace
// like a pod's, redirected by the rules of cni-plugin.
package bootstrap_test

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// envoy is the binary that the local cluster runs.
const envoy = "../../.local/bin/envoy"

const (
	appUID   = 1000
	podIPv4  = "10.244.0.2"
	podIPv6  = "fd00:244::2"
	nodeIPv4 = "10.244.0.1"
	nodeIPv6 = "fd00:244::1"
	nodeID   = "web-0.shop"
	patience = 20 * time.Second
)

// A sidecar is a running container traffic-envoy.
type sidecar struct {
	*sandbox
	spec   *corev1.Pod
	folder string
	cmd    *exec.Cmd
	log    *injected.Output
	exited chan struct{}
}

// run starts the sidecar of a pod as the kubelet would: variables expanded, volumes mounted, the user set. wrap may begin
// the command line.
func (s *sandbox) run(t *testing.T, pod *corev1.Pod, folder string, wrap ...string) *sidecar {
	t.Helper()
	args, environment := injected.Command(pod, s.ip, folder)
	command := slices.Concat(wrap, []string{envoy}, args)
	c := &sidecar{sandbox: s, spec: pod, folder: folder, log: &injected.Output{}, exited: make(chan struct{})}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Stdout, c.cmd.Stderr, c.cmd.Env = c.log, c.log, append(os.Environ(), environment...)
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: injected.UID, Gid: injected.UID}}
	injected.Inside(t, s.pod, c.cmd.Start)
	go func() {
		_ = c.cmd.Wait()
		close(c.exited)
	}()
	t.Cleanup(func() {
		c.kill()
		if t.Failed() {
			t.Logf("Envoy's output:\n%s", c.log)
		}
	})
	return c
}

// again starts it as before.
func (c *sidecar) again(t *testing.T) *sidecar {
	t.Helper()
	return c.run(t, c.spec, c.folder)
}

func (c *sidecar) kill() {
	_ = c.cmd.Process.Kill()
	<-c.exited
}

// tokenVolume is the volume that the kubelet renews.
const tokenVolume = "traffic-envoy-token"

// volumes are folders for the sidecar's volumes, with a token in the one that is for it.
func volumes(t *testing.T, pod *corev1.Pod, token string) string {
	t.Helper()
	folder := injected.Volumes(t, pod)
	project(t, pod, folder, token)
	return folder
}

// project writes the projected volume as the kubelet does: a new folder, to which the link ..data is swapped in one step.
func project(t *testing.T, pod *corev1.Pod, folder, token string) {
	t.Helper()
	volume := filepath.Join(folder, tokenVolume)
	current, err := os.MkdirTemp(volume, "..2026_")
	if err != nil {
		t.Fatal(err)
	}
	_, files := injected.Projected(pod, folder, token)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(current, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(volume, name)); err != nil {
			link(t, filepath.Join("..data", name), filepath.Join(volume, name))
		}
	}
	if err := os.Chmod(current, 0o755); err != nil {
		t.Fatal(err)
	}
	link(t, filepath.Base(current), filepath.Join(volume, "..data_tmp"))
	before, _ := os.Readlink(filepath.Join(volume, "..data"))
	if err := os.Rename(filepath.Join(volume, "..data_tmp"), filepath.Join(volume, "..data")); err != nil {
		t.Fatal(err)
	}
	if before != "" {
		if err := os.RemoveAll(filepath.Join(volume, before)); err != nil {
			t.Fatal(err)
		}
	}
}

func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path); err != nil {
		t.Fatal(err)
	}
}

// ready waits until the startup probe would succeed.
func (c *sidecar) ready(t *testing.T) {
	t.Helper()
	eventually(t, "/ready answers 200", func() error {
		select {
		case <-c.exited:
			t.Fatalf("Envoy ended: %v", c.cmd.ProcessState)
		default:
		}
		status, _, err := get(c.world, "http://"+net.JoinHostPort(c.ip, "8900")+"/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// eventually polls until there is no error.
func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("not in %s: %s: %v", patience, what, err)
}
