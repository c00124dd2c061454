package bootstrap_test

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// withoutIPv6 is set in the environment of a process that shall run its arguments as on a kernel without IPv6.
const withoutIPv6 = "TEST_WITHOUT_IPV6"

// execWithoutIPv6 becomes the command, for which opening an IPv6 socket fails as on a kernel that has none.
func execWithoutIPv6(command []string) error {
	const (
		number   = 0  // offset of the call's number in seccomp_data
		argument = 16 // offset of its first argument
	)
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_SOCKET},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: argument},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.AF_INET6},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no new privileges: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0); err != nil {
		return fmt.Errorf("seccomp: %w", err)
	}
	return syscall.Exec(command[0], command, os.Environ())
}

// TestIPv6First: in a cluster of IPv6 a pod's address has colons.
func TestIPv6First(t *testing.T) {
	s := newSandbox(t)
	s.ip = podIPv6
	c := newControl(t, s, nil).open()
	pod := injected.Pod(t, "shop", "web-0", injected.Config(c.port, c.ca))
	injected.Redirect(t, s.pod, pod)
	s.run(t, pod, volumes(t, pod, "token")).ready(t)
	if status, body, err := get(s.pod, "http://[2001:db8::c633:6464]"); body != nodeID {
		t.Errorf("%d %q, %v; want the node id", status, body, err)
	}
}

// TestWithoutIPv6BySysctl: many nodes switch IPv6 off; then there is no ::1 to bind.
func TestWithoutIPv6BySysctl(t *testing.T) {
	s := newSandbox(t, "net/ipv6/conf/all/disable_ipv6", "net/ipv6/conf/default/disable_ipv6")
	c := newControl(t, s, nil).open()
	pod := injected.Pod(t, "shop", "web-0", injected.Config(c.port, c.ca))
	injected.Redirect(t, s.pod, pod)
	s.run(t, pod, volumes(t, pod, "token")).ready(t)
	if status, body, err := get(s.pod, "http://198.51.100.100"); body != nodeID {
		t.Errorf("%d %q, %v; want the node id", status, body, err)
	}
}

// TestKernelWithoutIPv6: there even an IPv6 address in the configuration is an error, so it must be left out.
func TestKernelWithoutIPv6(t *testing.T) {
	s := newSandbox(t)
	c := newControl(t, s, nil).open()
	conf := injected.Config(c.port, c.ca)
	conf.IPv6 = false
	pod := injected.Pod(t, "shop", "web-0", conf)
	injected.Redirect(t, s.pod, pod)
	t.Setenv(withoutIPv6, "1")
	s.run(t, pod, volumes(t, pod, "token"), "/proc/self/exe").ready(t)
	if status, body, err := get(s.pod, "http://198.51.100.100"); body != nodeID {
		t.Errorf("%d %q, %v; want the node id", status, body, err)
	}

	conf.IPv6, conf.ControlHost = true, "traffic-control.invalid"
	pod = injected.Pod(t, "shop", "web-0", conf)
	other := newSandbox(t).run(t, pod, volumes(t, pod, "token"), "/proc/self/exe")
	select {
	case <-other.exited:
	case <-time.After(patience):
		t.Fatal("Envoy runs with IPv6 addresses where there is no IPv6: the setting has become needless")
	}
	if !strings.Contains(other.log.String(), "malformed IP address: ::1") {
		t.Errorf("not the message that the documentation names:\n%s", other.log)
	}
}

// TestMain lets the test binary stand in front of Envoy, to take IPv6 away from it.
func TestMain(m *testing.M) {
	if os.Getenv(withoutIPv6) != "" {
		fmt.Fprintln(os.Stderr, execWithoutIPv6(os.Args[1:]))
		os.Exit(1)
	}
	os.Exit(m.Run())
}
