package bench

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
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

const proxyUID = 1337

// adminSocket is where Envoy's admin interface is, in the folder of its pod's volumes.
const adminSocket = "traffic-envoy-admin/admin.sock"

// A sidecar is a running Envoy, with the arguments that injection gives it, and the pod's redirect around it.
type sidecar struct {
	admin   *http.Client
	command *exec.Cmd
	pod     *corev1.Pod
	// args are Envoy's, with paths of this machine in them.
	args []string
	log  string
	stop func()
}

// startSidecar injects a pod, redirects its connections, and runs its Envoy until it has a configuration from the control
// plane at a port of the pod's loopback.
func startSidecar(b *testing.B, w *world, name, namespace, token string, ca *x509.Certificate, port uint16) *sidecar {
	b.Helper()
	pod := injectedPod(b, name, namespace, inject.Config{
		ProxyImage: "envoy", VerifyImage: "verify", ImagePullPolicy: corev1.PullIfNotPresent, Verify: true,
		ProxyUID: proxyUID, ProxyPort: 10000, StatsPort: 8900, Concurrency: 2, LogLevel: "warning", IPv6: true,
		OutboundPolicy: inject.Block, ControlHost: "localhost", ControlPort: port, CA: []*x509.Certificate{ca},
	})
	redirectPod(b, w, pod)
	folder := writableFolder(b)
	s := runEnvoy(b, w, folder, mount(b, folder, pod, token))
	s.pod = pod
	return s
}

// redirectPod writes the rules that the CNI plugin writes.
func redirectPod(b *testing.B, w *world, pod *corev1.Pod) {
	b.Helper()
	spec, err := redirect.Decode(pod.Annotations[redirect.Annotation])
	if err != nil {
		b.Fatal(err)
	}
	if err := (apply.Nftables{}).Apply(w.pod, spec); err != nil {
		b.Fatal(err)
	}
}

// runEnvoy runs Envoy in the pod until stop is called, and returns when it is ready.
func runEnvoy(b *testing.B, w *world, folder string, args []string) *sidecar {
	b.Helper()
	output, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer output.Close()
	s := &sidecar{command: exec.Command(binary, args...), args: args, log: output.Name()}
	s.command.Stdout, s.command.Stderr = output, output
	s.command.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: proxyUID, Gid: proxyUID}, Pdeathsig: syscall.SIGKILL,
	}
	within(b, w.pod, s.command.Start)
	s.stop = sync.OnceFunc(func() {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
		if text, err := os.ReadFile(s.log); b.Failed() && err == nil {
			b.Logf("the end of Envoy's output:\n%s", text[max(0, len(text)-2000):])
		}
	})
	b.Cleanup(s.stop)
	s.admin = &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(folder, adminSocket))
		},
	}}
	waitFor(b, "Envoy is ready", func(context.Context) (bool, error) {
		got, err := ask(s.admin, "http://admin/ready")
		return err == nil && got.status == http.StatusOK, nil
	})
	return s
}

// injectedPod is the pod as the webhook makes it.
func injectedPod(b *testing.B, name, namespace string, c inject.Config) *corev1.Pod {
	b.Helper()
	raw := fmt.Appendf(nil, `{"metadata":{"name":%q,"namespace":%q},"spec":{"containers":[{"name":"app","image":"app"}]}}`, name, namespace)
	injector, err := inject.New(c)
	if err != nil {
		b.Fatal(err)
	}
	result, err := injector.Pod(raw)
	if err != nil {
		b.Fatal(err)
	}
	text, err := patch.Marshal(result.Patch)
	if err != nil {
		b.Fatal(err)
	}
	operations, err := jsonpatch.DecodePatch(text)
	if err != nil {
		b.Fatal(err)
	}
	if raw, err = operations.Apply(raw); err != nil {
		b.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		b.Fatal(err)
	}
	return pod
}

// writableFolder is one that Envoy's user can reach.
func writableFolder(b *testing.B) string {
	b.Helper()
	folder, err := os.MkdirTemp("", "bench")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		b.Fatal(err)
	}
	return folder
}

// mount makes folders for the sidecar's volumes, writes its token, and returns its arguments with these paths in them.
func mount(b *testing.B, folder string, pod *corev1.Pod, token string) (args []string) {
	b.Helper()
	pairs := []string{
		"$(POD_NAME)", pod.Name, "$(POD_NAMESPACE)", pod.Namespace, "$(POD_IP)", podAddress, "$(SERVICE_NAME)", pod.Name,
	}
	for _, m := range pod.Spec.InitContainers[0].VolumeMounts {
		path := filepath.Join(folder, m.Name)
		if err := os.Mkdir(path, 0o755); err != nil {
			b.Fatal(err)
		}
		if err := os.Chown(path, proxyUID, proxyUID); err != nil {
			b.Fatal(err)
		}
		pairs = append(pairs, m.MountPath+"/", path+"/")
	}
	paths := strings.NewReplacer(pairs...)
	for _, v := range pod.Spec.Volumes {
		if v.Projected == nil {
			continue
		}
		for name, content := range map[string]string{
			v.Projected.Sources[0].ServiceAccountToken.Path:  token,
			v.Projected.Sources[1].DownwardAPI.Items[0].Path: paths.Replace(pod.Annotations[inject.TokenFileAnnotation]),
		} {
			if err := os.WriteFile(filepath.Join(folder, v.Name, name), []byte(content), 0o644); err != nil {
				b.Fatal(err)
			}
		}
	}
	for _, arg := range pod.Spec.InitContainers[0].Args {
		args = append(args, paths.Replace(arg))
	}
	return args
}
