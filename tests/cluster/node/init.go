// Package node is the inside of a cluster: the init process of its own
// network, mount and PID namespaces, and the supervisor that runs Kubernetes
// in them. When the init process ends, the kernel ends everything else.
package node

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// Files that the machine side hands to the init process, by descriptor.
const (
	cableFD    = 3 // a pipe that says when the cable is plugged in
	registryFD = 4 // the registry's listener on the machine
)

// Init prepares the namespaces that the calling process, their PID 1, was
// started in, runs program with args as the supervisor, and reaps orphans
// until the supervisor ends.
func Init(p *plan.Plan, program string, args ...string) error {
	if os.Getpid() != 1 {
		return errors.New("the node's init process must be PID 1 of a PID namespace of its own; start it with: cluster up")
	}
	if err := writePID(p); err != nil {
		return err
	}
	if err := raiseFileLimit(); err != nil {
		return err
	}
	if err := CreateCgroups(p); err != nil {
		return err
	}
	if err := mountAll(p); err != nil {
		return err
	}
	if err := waitForCable(); err != nil {
		return err
	}
	if err := configureNetwork(p); err != nil {
		return err
	}
	supervisor, err := os.StartProcess(program, append([]string{program}, args...), &os.ProcAttr{
		Env:   os.Environ(),
		Files: []*os.File{nil, os.Stdout, os.Stderr, os.NewFile(registryFD, "registry")},
	})
	if err != nil {
		return fmt.Errorf("start the supervisor: %w", err)
	}
	return reapUntil(supervisor.Pid)
}

// writePID records this process by its PID on the machine, which the machine's
// own /proc still shows.
func writePID(p *plan.Plan) error {
	pid, err := os.Readlink("/proc/self")
	if err != nil {
		return fmt.Errorf("find the init process's PID on the machine: %w", err)
	}
	start, err := StartTime(pid)
	if err != nil {
		return err
	}
	path := p.Dir("node.pid")
	if err := os.WriteFile(path+".new", []byte(pid+" "+start), 0o600); err != nil {
		return fmt.Errorf("record the init process: %w", err)
	}
	return os.Rename(path+".new", path)
}

// StartTime returns when process pid started, in clock ticks since boot. It
// tells a process from a later one with the same PID.
func StartTime(pid string) (string, error) {
	stat, err := os.ReadFile("/proc/" + pid + "/stat")
	if err != nil {
		return "", fmt.Errorf("read the start time of process %s: %w", pid, err)
	}
	// The command, field 2, may hold spaces and parentheses; field 22 is the time.
	_, after, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	fields := strings.Fields(after)
	if len(fields) < 20 {
		return "", fmt.Errorf("read the start time of process %s: %q is too short", pid, stat)
	}
	return fields[19], nil
}

// raiseFileLimit allows every process of the node, the containers included, as
// many open files as this process may allow: a shell's 1,024 are too few for a
// proxy.
func raiseFileLimit() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("read the limit of open files: %w", err)
	}
	limit.Cur = limit.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return fmt.Errorf("raise the limit of open files to %d: %w", limit.Max, err)
	}
	return nil
}

// waitForCable returns when the machine side has plugged the cable in; if that
// side is gone, it fails, and nothing of the node is left.
func waitForCable() error {
	pipe := os.NewFile(cableFD, "cable")
	defer pipe.Close()
	if _, err := pipe.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("wait for the machine's side of the network: %w", err)
	}
	return nil
}

// reapUntil waits for children of any kind until process pid has ended.
func reapUntil(pid int) error {
	for {
		var status unix.WaitStatus
		ended, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("wait for children: %w", err)
		case ended == pid:
			return fmt.Errorf("the supervisor ended with status %d", status.ExitStatus())
		}
	}
}
