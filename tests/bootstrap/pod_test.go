// Package bootstrap_test runs what webhook/inject puts into a pod: a real Envoy with the bootstrap, in a network namespace
// like a pod's, redirected by the rules of cni-plugin.
package bootstrap_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
)

// envoy is the binary that the local cluster runs.
const envoy = "../../.local/bin/envoy"

const (
	proxyUID = 1337
	appUID   = 1000
	podIPv4  = "10.244.0.2"
	podIPv6  = "fd00:244::2"
	nodeIPv4 = "10.244.0.1"
	nodeIPv6 = "fd00:244::1"
	nodeID   = "web-0.shop"
	patience = 20 * time.Second
)

// config is what the chart's defaults make, but for the control plane: it is in the pod's own network namespace.
func config(ca *x509.Certificate, port uint16) inject.Config {
	return inject.Config{
		ProxyImage: "envoy:test", VerifyImage: "verify:test", ImagePullPolicy: corev1.PullIfNotPresent, Verify: true,
		ProxyUID: proxyUID, ProxyPort: 10000, StatsPort: 8900, Concurrency: 1, LogLevel: "warning", IPv6: true,
		OutboundPolicy: inject.Block, ControlHost: "localhost", ControlPort: port, CA: []*x509.Certificate{ca},
	}
}

// injected is the pod "web-0" of namespace "shop" as the webhook makes it.
func injected(t *testing.T, c inject.Config) *corev1.Pod {
	t.Helper()
	raw := []byte(`{"metadata":{"name":"web-0","namespace":"shop"},"spec":{"containers":[{"name":"app","image":"app"}]}}`)
	injector, err := inject.New(c)
	if err != nil {
		t.Fatal(err)
	}
	result, err := injector.Pod(raw)
	if err != nil || result.Outcome != inject.Injected {
		t.Fatalf("not injected: %+v, %v", result, err)
	}
	text, err := patch.Marshal(result.Patch)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = operations.Apply(raw); err != nil {
		t.Fatal(err)
	}
	var pod corev1.Pod
	if err := json.Unmarshal(raw, &pod); err != nil {
		t.Fatal(err)
	}
	return &pod
}

// A sidecar is a running container traffic-envoy.
type sidecar struct {
	*sandbox
	spec   *corev1.Pod
	folder string
	cmd    *exec.Cmd
	log    *buffer
	exited chan struct{}
}

// run starts the sidecar of a pod as the kubelet would: variables expanded, volumes mounted, the user set. wrap may begin
// the command line.
func (s *sandbox) run(t *testing.T, pod *corev1.Pod, folder string, wrap ...string) *sidecar {
	t.Helper()
	command := append(slices.Clone(wrap), envoy)
	for _, arg := range pod.Spec.InitContainers[0].Args {
		command = append(command, expand(pod, s.ip, folder).Replace(arg))
	}
	c := &sidecar{sandbox: s, spec: pod, folder: folder, log: &buffer{}, exited: make(chan struct{})}
	c.cmd = exec.Command(command[0], command[1:]...)
	c.cmd.Stdout, c.cmd.Stderr = c.log, c.log
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: proxyUID, Gid: proxyUID}}
	inside(t, s.pod, c.cmd.Start)
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

// expand puts in what the kubelet knows, and the folders that stand for the volumes.
func expand(pod *corev1.Pod, ip, folder string) *strings.Replacer {
	pairs := []string{
		"$(POD_NAME)", pod.Name, "$(POD_NAMESPACE)", pod.Namespace, "$(POD_IP)", ip,
		"$(SERVICE_NAME)", pod.Annotations[inject.ServiceAnnotation],
	}
	for _, mount := range pod.Spec.InitContainers[0].VolumeMounts {
		pairs = append(pairs, mount.MountPath+"/", filepath.Join(folder, mount.Name)+"/")
	}
	return strings.NewReplacer(pairs...)
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
	folder := t.TempDir()
	for _, mount := range pod.Spec.InitContainers[0].VolumeMounts {
		path := filepath.Join(folder, mount.Name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, proxyUID, proxyUID); err != nil {
			t.Fatal(err)
		}
	}
	// The folder above must be open to Envoy's user.
	if err := os.Chmod(filepath.Dir(folder), 0o755); err != nil {
		t.Fatal(err)
	}
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
	files := map[string]string{}
	for _, v := range pod.Spec.Volumes {
		if v.Name == tokenVolume {
			files[v.Projected.Sources[0].ServiceAccountToken.Path] = token
			files[v.Projected.Sources[1].DownwardAPI.Items[0].Path] = expand(pod, "", folder).Replace(pod.Annotations[inject.TokenFileAnnotation])
		}
	}
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

// A buffer collects output of a process while it runs.
type buffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
