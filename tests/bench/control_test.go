package bench

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// A controlPlane is traffic-control as a process of its own against the local cluster.
type controlPlane struct {
	program string
	args    []string
	address string // of xDS
	ca      *x509.Certificate

	command *exec.Cmd
	log     *bytes.Buffer
}

// newControlPlane builds the program, and does not start it.
func newControlPlane(b *testing.B, kubeconfig, namespace string) *controlPlane {
	b.Helper()
	dir := b.TempDir()
	program := filepath.Join(dir, "traffic-control")
	// As it is built for its image.
	build := exec.CommandContext(b.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-tags", "grpcnotrace", "-o", program,
		"github.com/kubernetes-traffic-manager/traffic/xds/cmd/traffic-control")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	c := &controlPlane{program: program, address: freeAddress(b), ca: injected.Certificate(b, dir)}
	c.args = []string{
		"--namespace=" + namespace, "--kubeconfig=" + kubeconfig, "--tls-dir=" + dir,
		"--listen=" + c.address, "--status-listen=" + freeAddress(b),
		"--memory-limit=" + fmt.Sprint(512<<20), // the chart's
	}
	return c
}

// start runs the process until stop, or the benchmark's end.
func (c *controlPlane) start(b *testing.B) {
	b.Helper()
	c.log = &bytes.Buffer{}
	c.command = exec.CommandContext(context.WithoutCancel(b.Context()), c.program, c.args...)
	c.command.Stderr = c.log
	c.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.command.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(sync.OnceFunc(func() { c.stop(b) }))
}

func (c *controlPlane) pid() int { return c.command.Process.Pid }

// stop ends the process as the kubelet does.
func (c *controlPlane) stop(b *testing.B) {
	b.Helper()
	if c.command.ProcessState != nil {
		return
	}
	if err := c.command.Process.Signal(syscall.SIGTERM); err != nil {
		b.Error(err)
	}
	if err := c.command.Wait(); err != nil {
		b.Errorf("traffic-control: %v\n%s", err, c.log)
	}
}

// processorTime is what the process has used, in seconds.
func processorTime(b *testing.B, pid int) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// After the name in brackets, of 1/100 s each: utime and stime are the 14th and 15th column.
	columns := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var user, system float64
	if _, err := fmt.Sscan(columns[11], &user); err != nil {
		b.Fatal(err)
	}
	if _, err := fmt.Sscan(columns[12], &system); err != nil {
		b.Fatal(err)
	}
	return (user + system) / 100
}

// memory returns a figure of a process's memory in MB: VmRSS, what is resident, or VmHWM, the most that ever was.
func memory(b *testing.B, pid int, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			var kB float64
			if _, err := fmt.Sscan(value, &kB); err != nil {
				b.Fatal(err)
			}
			return kB * 1024 / 1e6
		}
	}
	b.Fatalf("process %d has no %s", pid, field)
	return 0
}

func freeAddress(b *testing.B) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// waitFor asks until it is so.
func waitFor(b *testing.B, what string, is func(context.Context) (bool, error)) {
	b.Helper()
	err := wait.PollUntilContextTimeout(b.Context(), 10*time.Millisecond, 30*time.Second, true, is)
	if err != nil {
		b.Fatalf("%s: %v", what, err)
	}
}
