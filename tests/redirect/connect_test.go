package redirect_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/node"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// A program in the kernel that rewrites cluster IPs inside connect(2), as those of
// Cilium and Calico do, must be told of, and no longer once it leaves pods alone.
// Asking sends no packet: a pod's statistics and its Envoy's log stay clean.
func TestBalancingAtConnectIsSeen(t *testing.T) {
	for _, c := range []struct {
		service, backend string
		attachType       uint32
		offset           int16 // of the address's last word in struct bpf_sock_addr
	}{
		{"10.96.0.1:443", "198.51.100.7:443", 10, 4},
		{"[fd96::1]:443", "[fd96::7]:443", 11, 20},
	} {
		t.Run(c.service, func(t *testing.T) {
			service, backend := netip.MustParseAddrPort(c.service), netip.MustParseAddrPort(c.backend)
			config, client := oneNode(t), fake.NewClientset()
			config.Service, config.VerifyInterval = service, 50*time.Millisecond
			w := newWorld(t, dualStack)
			w.startPod(config, client, "web-0", w.pod)
			detach := rewriteAtConnect(t, c.attachType, c.offset, lastWord(service), lastWord(backend))
			startAgent(t, config, client)
			awaitMetric(t, config.Listen, "traffic_node_rewritten_connections 1")
			awaitEvent(t, client, "default", config.NodeName, "RedirectBypassed")
			detach()
			awaitMetric(t, config.Listen, "traffic_node_rewritten_connections 0")
			w.in(w.pod, func() error {
				text, err := os.ReadFile("/proc/thread-self/net/snmp")
				if fields := strings.Fields(string(text[strings.LastIndex(string(text), "Tcp:"):])); fields[11] != "0" {
					t.Errorf("%s TCP segments were sent from the pod", fields[11])
				}
				return err
			})
		})
	}
}

// oneNode is the configuration of an agent that can be asked for its metrics.
func oneNode(t *testing.T) node.Config {
	t.Helper()
	dir := t.TempDir()
	config := node.Config{
		NodeName: "node-1", DaemonSet: types.NamespacedName{Namespace: "traffic-system", Name: "traffic-node"},
		ConfDir: filepath.Join(dir, "net.d"), BinDir: filepath.Join(dir, "bin"), CacheDir: filepath.Join(dir, "cache"), NetnsDir: filepath.Join(dir, "netns"),
		Plugin: filepath.Join(bin, plugin.Type), Backend: apply.Auto, VerifyInterval: time.Hour, Listen: injected.FreeAddress(t),
	}
	for _, d := range []string{config.ConfDir, config.BinDir, config.CacheDir, config.NetnsDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(config.ConfDir, "10-net.conflist"), []byte(conflist), 0o644); err != nil {
		t.Fatal(err)
	}
	return config
}

func awaitMetric(t *testing.T, address, line string) {
	t.Helper()
	var text []byte
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		response, err := http.Get("http://" + address + "/metrics")
		if err != nil {
			continue // not listening yet
		}
		text, _ = io.ReadAll(response.Body)
		response.Body.Close()
		if strings.Contains(string(text), line+"\n") {
			return
		}
	}
	t.Fatalf("no %s in\n%s", line, text)
}

func lastWord(a netip.AddrPort) uint32 {
	bytes := a.Addr().AsSlice()
	return binary.NativeEndian.Uint32(bytes[len(bytes)-4:])
}

// rewriteAtConnect moves this process into a control group with a program that
// puts one word of an address in place of another in every connect(2).
func rewriteAtConnect(t *testing.T, attachType uint32, offset int16, from, to uint32) (detach func()) {
	t.Helper()
	own := cgroupOf(t)
	mounted := t.TempDir()
	if err := unix.Mount("cgroup2", mounted, "cgroup2", 0, ""); err != nil {
		t.Fatal(err)
	}
	group, err := os.MkdirTemp(filepath.Join(mounted, own), "connect-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		move(t, filepath.Join(mounted, own))
		if err := os.Remove(group); err != nil {
			t.Error(err)
		}
		if err := unix.Unmount(mounted, 0); err != nil {
			t.Error(err)
		}
	})
	program := loadRewrite(t, attachType, offset, from, to)
	folder, err := unix.Open(group, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(folder)
	attach := struct{ target, program, kind, flags uint32 }{uint32(folder), uint32(program), attachType, 0}
	if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attach), unsafe.Sizeof(attach)); err != nil {
		t.Fatalf("attach: %v", err)
	}
	move(t, group)
	return func() { move(t, filepath.Join(mounted, own)) }
}

// cgroupOf is this process's control group of version 2.
func cgroupOf(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return path
		}
	}
	t.Fatal("the kernel has no control groups of version 2")
	return ""
}

// move moves this process into a control group.
func move(t *testing.T, group string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), fmt.Append(nil, os.Getpid()), 0); err != nil {
		t.Error(err)
	}
}

// loadRewrite loads the program: if the word at offset is from, it becomes to; and
// the connection is allowed.
func loadRewrite(t *testing.T, attachType uint32, offset int16, from, to uint32) int {
	t.Helper()
	type instruction struct {
		code, registers uint8
		offset          int16
		value           int32
	}
	program := []instruction{
		{0x61, 0x12, offset, 0},      // r2 = context[offset]
		{0x56, 0x02, 2, int32(from)}, // unless w2 == from, skip two
		{0xb4, 0x02, 0, int32(to)},   // w2 = to
		{0x63, 0x21, offset, 0},      // context[offset] = r2
		{0xb7, 0x00, 0, 1},           // r0 = 1
		{0x95, 0x00, 0, 0},           // return r0
	}
	license, log := []byte("Apache-2.0\x00"), make([]byte, 1<<16)
	load := struct {
		kind, count           uint32
		instructions, license unsafe.Pointer
		logLevel, logSize     uint32
		log                   unsafe.Pointer
		kernel, flags         uint32
		name                  [16]byte
		device, attachType    uint32
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_SOCK_ADDR, count: uint32(len(program)),
		instructions: unsafe.Pointer(&program[0]), license: unsafe.Pointer(&license[0]),
		logLevel: 1, logSize: uint32(len(log)), log: unsafe.Pointer(&log[0]), attachType: attachType,
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	if err != nil {
		t.Fatalf("load: %v\n%s", err, log)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func bpf(command uintptr, attributes unsafe.Pointer, size uintptr) (int, error) {
	result, _, errno := unix.Syscall(unix.SYS_BPF, command, uintptr(attributes), size)
	if errno != 0 {
		return 0, errno
	}
	return int(result), nil
}
