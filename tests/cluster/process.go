package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// Running reports whether the cluster's node has been started; its components
// may not be ready.
func (c *Cluster) Running() (bool, error) {
	pid, err := c.pid()
	return pid != 0, err
}

// pid is the init process's PID on the machine, 0 if it does not run.
func (c *Cluster) pid() (int, error) { return runningPID(c.Dir("node.pid")) }

// runningPID is the PID that an init process recorded in file, 0 if the process
// is gone.
func runningPID(file string) (int, error) {
	record, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the record of the init process: %w", err)
	}
	pid, start, _ := strings.Cut(string(record), " ")
	if now, err := node.StartTime(pid); err != nil || now != start {
		return 0, nil // gone, and its PID perhaps used again
	}
	return strconv.Atoi(pid)
}

// startNode starts the init process in namespaces of its own and plugs the
// network cable in.
func (c *Cluster) startNode(ctx context.Context) error {
	if err := os.MkdirAll(c.Dir("logs"), 0o700); err != nil {
		return fmt.Errorf("create the log directory: %w", err)
	}
	log, err := os.Create(c.Log("node"))
	if err != nil {
		return fmt.Errorf("create the node's log: %w", err)
	}
	defer log.Close()
	registry, err := c.listenRegistry()
	if err != nil {
		return err
	}
	defer registry.Close()
	waiting, plugged, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make a pipe: %w", err)
	}
	defer waiting.Close()
	defer plugged.Close()

	cmd := exec.Command(c.Bin("cluster"), "-name", c.Name, "-state", c.State, "-net", strconv.Itoa(c.Net), "node-init")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{waiting, registry}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setsid:     true,
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the init process: %w", err)
	}
	waiting.Close()
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if err := c.plugCable(cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	if err := until(ctx, c.recorded(ended)); err != nil {
		return fmt.Errorf("%w; its log is %s", err, c.Log("node"))
	}
	// From here on the node lives on without this program.
	if _, err := io.WriteString(plugged, "!"); err != nil {
		return fmt.Errorf("tell the init process of its network: %w; its log is %s", err, c.Log("node"))
	}
	return nil
}

// recorded makes a question whether the init process has recorded its PID, so
// that the next program finds it. ended gets the end of that process.
func (c *Cluster) recorded(ended <-chan error) func(context.Context) error {
	return func(context.Context) error {
		select {
		case err := <-ended:
			return errors.Join(ErrDown, fmt.Errorf("the init process ended: %w", err))
		default:
		}
		pid, err := c.pid()
		if err == nil && pid == 0 {
			err = errors.New("the init process has not recorded its PID")
		}
		return err
	}
}

// listenRegistry opens the registry's listener on the machine, for the node's
// registry to serve.
func (c *Cluster) listenRegistry() (*os.File, error) {
	address := fmt.Sprintf("127.0.0.1:%d", c.MachinePort())
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		return nil, fmt.Errorf("open the registry's port: %w; stop the program that listens there, or choose another subnet with -net", err)
	}
	defer listener.Close()
	file, err := listener.(*net.TCPListener).File()
	if err != nil {
		return nil, fmt.Errorf("pass the registry's port on: %w", err)
	}
	return file, nil
}

// stopNode kills the init process, and with it everything in its PID
// namespace, and returns when all of that is gone.
func (c *Cluster) stopNode(ctx context.Context) error {
	pid, err := c.pid()
	if err != nil || pid == 0 {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill the init process %d: %w", pid, err)
	}
	return until(ctx, func(context.Context) error {
		if pid, err := c.pid(); err != nil || pid != 0 {
			return fmt.Errorf("the init process %d is still there: %w", pid, err)
		}
		return nil
	})
}
