package bench

import (
	"context"
	"crypto/x509"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// binary is the Envoy that the local cluster runs.
const binary = "../../.local/bin/envoy"

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
	config := injected.Config(port, ca)
	config.Concurrency = 2 // the chart's
	pod := injected.Pod(b, namespace, name, config)
	injected.Redirect(b, w.pod, pod)
	folder := injected.Volumes(b, pod)
	injected.WriteToken(b, pod, folder, token)
	args, environment := injected.Command(pod, podAddress, folder)
	s := runEnvoy(b, w, folder, args, environment...)
	s.pod = pod
	return s
}

// runEnvoy runs Envoy in the pod until stop is called, and returns when it is ready.
func runEnvoy(b *testing.B, w *world, folder string, args []string, environment ...string) *sidecar {
	b.Helper()
	output, err := os.Create(filepath.Join(folder, "log"))
	if err != nil {
		b.Fatal(err)
	}
	defer output.Close()
	s := &sidecar{command: exec.Command(binary, args...), args: args, log: output.Name()}
	s.command.Stdout, s.command.Stderr, s.command.Env = output, output, append(os.Environ(), environment...)
	s.command.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: injected.UID, Gid: injected.UID}, Pdeathsig: syscall.SIGKILL,
	}
	injected.Inside(b, w.pod, s.command.Start)
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
