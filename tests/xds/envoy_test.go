package xds

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
)

// binary is the Envoy that the local cluster runs.
const binary = "../../.local/bin/envoy"

const (
	proxyUID = 1337

	// tokenOf begins the token of each pod.
	tokenOf = "the-token-of-"
)

// A sidecar is a running Envoy with the pod's redirect around it.
type sidecar struct {
	*world
	admin *http.Client
	log   *output
	pid   int
	end   func()
}

// startSidecar injects a pod, redirects its connections, and runs its Envoy against a control plane.
func startSidecar(t *testing.T, w *world, c *control) *sidecar {
	t.Helper()
	return startEnvoy(t, w, c, binary, "client-0")
}

// startEnvoy is a sidecar of that pod with that program.
func startEnvoy(t *testing.T, w *world, c *control, binary, name string) *sidecar {
	t.Helper()
	pod := injected(t, name, inject.Config{
		ProxyImage: "envoy:test", VerifyImage: "verify:test", ImagePullPolicy: corev1.PullIfNotPresent, Verify: true,
		ProxyUID: proxyUID, ProxyPort: 10000, StatsPort: 8900, Concurrency: 1, LogLevel: "warning", IPv6: true,
		OutboundPolicy: inject.Block, ControlHost: "localhost", ControlPort: c.port, CA: c.ca,
	})
	spec, err := redirect.Decode(pod.Annotations[redirect.Annotation])
	if err != nil {
		t.Fatal(err)
	}
	if err := (apply.Nftables{}).Apply(w.pod, spec); err != nil {
		t.Fatal(err)
	}
	folder, args, environment := mounted(t, pod)
	s := &sidecar{world: w, log: &output{}}
	command := exec.Command(binary, args...)
	command.Stdout, command.Stderr, command.Env = s.log, s.log, append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: proxyUID, Gid: proxyUID}, Pdeathsig: syscall.SIGKILL,
	}
	inside(t, w.pod, command.Start)
	s.pid = command.Process.Pid
	s.end = sync.OnceFunc(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
	})
	t.Cleanup(func() {
		s.end()
		if t.Failed() {
			t.Logf("Envoy's output:\n%s", s.log)
		}
	})
	s.admin = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", adminSocket(t, folder))
		},
	}}
	eventually(t, "Envoy is ready", func() error {
		text, err := s.ask("/ready")
		if err == nil && text != "LIVE\n" {
			err = fmt.Errorf("it says %q", text)
		}
		return err
	})
	return s
}

// injected is the pod as the webhook makes it.
func injected(t *testing.T, name string, c inject.Config) *corev1.Pod {
	t.Helper()
	raw := fmt.Appendf(nil, `{"metadata":{"name":%q,"namespace":"default"},"spec":{"containers":[{"name":"app","image":"app"}]}}`, name)
	injector, err := inject.New(c)
	if err != nil {
		t.Fatal(err)
	}
	result, err := injector.Pod(raw)
	if err != nil {
		t.Fatal(err)
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
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// mounted makes folders for the sidecar's volumes, writes its token, and returns its arguments and variables with these
// paths in them.
func mounted(t *testing.T, pod *corev1.Pod) (folder string, args, environment []string) {
	t.Helper()
	folder, err := os.MkdirTemp("", "xds")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	pairs := []string{
		"$(POD_NAME)", pod.Name, "$(POD_NAMESPACE)", pod.Namespace, "$(POD_IP)", podAddress,
		"$(SERVICE_NAME)", pod.Annotations[inject.ServiceAnnotation],
	}
	for _, mount := range pod.Spec.InitContainers[0].VolumeMounts {
		path := filepath.Join(folder, mount.Name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, proxyUID, proxyUID); err != nil {
			t.Fatal(err)
		}
		pairs = append(pairs, mount.MountPath+"/", path+"/")
	}
	paths := strings.NewReplacer(pairs...)
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		secret := paths.Replace(pod.Annotations[inject.TokenFileAnnotation])
		for name, content := range map[string]string{
			v.Projected.Sources[0].ServiceAccountToken.Path:  tokenOf + pod.Name,
			v.Projected.Sources[1].DownwardAPI.Items[0].Path: secret,
		} {
			if err := os.WriteFile(filepath.Join(folder, v.Name, name), []byte(content), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, arg := range pod.Spec.InitContainers[0].Args {
		args = append(args, paths.Replace(arg))
	}
	for _, v := range pod.Spec.InitContainers[0].Env {
		if v.ValueFrom == nil {
			environment = append(environment, v.Name+"="+paths.Replace(v.Value))
		}
	}
	return folder, args, environment
}

func adminSocket(t *testing.T, folder string) string {
	sockets, err := filepath.Glob(filepath.Join(folder, "*", "*.sock"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(append(sockets, ""), "")
}

// ask returns what the admin interface says.
func (s *sidecar) ask(path string) (string, error) {
	res, err := s.admin.Get("http://admin" + path)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return string(text), err
}

// An output collects what a process writes while it runs.
type output struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// complaints are the lines in Envoy's own log, which is at level warning. Lines about the connection to the control plane
// are left out: tests cut it.
func (s *sidecar) complaints() []string {
	var lines []string
	for _, line := range regexp.MustCompile(`(?m)^\[.*\]\[(warning|error|critical)\].*$`).FindAllString(s.log.String(), -1) {
		if !strings.Contains(line, "gRPC config stream closed") {
			lines = append(lines, line)
		}
	}
	return lines
}
