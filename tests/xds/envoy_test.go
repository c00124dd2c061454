package xds

import (
	"context"
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

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// binary is the Envoy that the local cluster runs.
const binary = "../../.local/bin/envoy"

// tokenOf begins the token of each pod.
const tokenOf = "the-token-of-"

// A sidecar is a running Envoy with the pod's redirect around it.
type sidecar struct {
	*world
	admin *http.Client
	log   *injected.Output
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
	pod := injected.Pod(t, "default", name, injected.Config(c.port, c.ca...))
	injected.Redirect(t, w.pod, pod)
	folder := injected.Volumes(t, pod)
	injected.WriteToken(t, pod, folder, tokenOf+pod.Name)
	args, environment := injected.Command(pod, podAddress, folder)
	s := &sidecar{world: w, log: &injected.Output{}}
	command := exec.Command(binary, args...)
	command.Stdout, command.Stderr, command.Env = s.log, s.log, append(os.Environ(), environment...)
	command.SysProcAttr = &syscall.SysProcAttr{
		Credential: &syscall.Credential{Uid: injected.UID, Gid: injected.UID}, Pdeathsig: syscall.SIGKILL,
	}
	injected.Inside(t, w.pod, command.Start)
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
