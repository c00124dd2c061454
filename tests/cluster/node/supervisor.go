package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

const (
	restartDelay = time.Second           // between the end of a component and its next start
	probeDelay   = 50 * time.Millisecond // between two questions whether a component is ready
	termGrace    = 10 * time.Second      // from SIGTERM to SIGKILL
)

// Status is what the supervisor knows of a component.
type Status struct {
	Name     string    `json:"name"`
	Wanted   bool      `json:"wanted"`
	PID      int       `json:"pid,omitempty"` // in the node's PID namespace; 0 when not running
	Ready    bool      `json:"ready"`
	Starts   int       `json:"starts"`
	Since    time.Time `json:"since,omitzero"` // of the last start
	LastExit string    `json:"lastExit,omitempty"`
}

// Supervisor runs components and starts again those that end unasked.
type Supervisor struct {
	plan *plan.Plan

	mu      sync.Mutex
	changed *sync.Cond // broadcast at every change of a status
	order   []string
	all     map[string]*supervised
}

type supervised struct {
	Component
	status Status
}

func newSupervisor(p *plan.Plan, components []Component) *Supervisor {
	s := &Supervisor{plan: p, all: map[string]*supervised{}}
	s.changed = sync.NewCond(&s.mu)
	for _, c := range components {
		s.order = append(s.order, c.Name)
		s.all[c.Name] = &supervised{Component: c, status: Status{Name: c.Name, Wanted: true}}
	}
	return s
}

// Supervise runs the node's components inside the namespaces that Init made,
// until ctx ends. self is the path of this program.
func Supervise(ctx context.Context, p *plan.Plan, self string) error {
	for _, dir := range []string{p.Dir("logs"), p.Dir("tmp"), p.Dir("etcd")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("create %s: %w", dir, err)
		}
	}
	if err := writeConfigs(p); err != nil {
		return err
	}
	if err := installPlugins(p); err != nil {
		return err
	}
	s := newSupervisor(p, components(p, self, os.NewFile(cableFD, "registry")))
	for _, name := range s.order {
		go s.run(ctx, s.all[name])
	}
	return s.serve(ctx)
}

// run keeps one component as it is wanted.
func (s *Supervisor) run(ctx context.Context, c *supervised) {
	for ctx.Err() == nil {
		ready := func() bool { return c.status.Wanted && s.needsReady(c) }
		if s.waitUntil(ctx, ready) != nil {
			return
		}
		err := s.runOnce(ctx, c)
		unasked := false
		s.update(func() {
			unasked = c.status.Wanted
			c.status.PID, c.status.Ready = 0, false
			c.status.LastExit = "exit status 0"
			if err != nil {
				c.status.LastExit = err.Error()
			}
		})
		if unasked {
			time.Sleep(restartDelay)
		}
	}
}

// runOnce starts the component and returns when it has ended.
func (s *Supervisor) runOnce(ctx context.Context, c *supervised) error {
	log, err := os.OpenFile(s.plan.Log(c.Name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(c.Args[0], c.Args[1:]...)
	cmd.Env = environment(s.plan)
	cmd.Dir = s.plan.Dir("tmp")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = c.Files
	if err := cmd.Start(); err != nil {
		return err
	}
	probing, stop := context.WithCancel(ctx)
	defer stop()
	s.update(func() {
		c.status.PID, c.status.Since = cmd.Process.Pid, time.Now()
		c.status.Starts++
	})
	go s.probe(probing, c, cmd.Process.Pid)
	return cmd.Wait()
}

// probe asks the component until it is ready or ctx ends.
func (s *Supervisor) probe(ctx context.Context, c *supervised, pid int) {
	for c.Ready != nil && c.Ready(ctx) != nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(probeDelay):
		}
	}
	s.update(func() { c.status.Ready = c.status.PID == pid })
}

// Statuses lists the components in the order of their needs.
func (s *Supervisor) Statuses() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	var list []Status
	for _, name := range s.order {
		list = append(list, s.all[name].status)
	}
	return list
}

// Stop ends a component and returns when its process is gone, or ctx ends.
func (s *Supervisor) Stop(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	var pid int
	s.update(func() { c.status.Wanted, pid = false, c.status.PID })
	if pid == 0 {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: %w", name, err)
	}
	kill := time.AfterFunc(termGrace, func() {
		if s.pid(c) == pid {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	defer kill.Stop()
	return s.waitUntil(ctx, func() bool { return c.status.PID != pid })
}

// Start starts a component that was stopped and returns when it is ready, or
// ctx ends.
func (s *Supervisor) Start(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	s.update(func() { c.status.Wanted = true })
	return s.waitUntil(ctx, func() bool { return c.status.Ready || !c.status.Wanted })
}

func (s *Supervisor) find(name string) (*supervised, error) {
	c, ok := s.all[name]
	if !ok {
		return nil, fmt.Errorf("no component %q; there are %v", name, s.order)
	}
	return c, nil
}

// needsReady reports whether all that c needs is ready. s.mu is held.
func (s *Supervisor) needsReady(c *supervised) bool {
	for _, need := range c.Needs {
		if !s.all[need].status.Ready {
			return false
		}
	}
	return true
}

func (s *Supervisor) pid(c *supervised) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return c.status.PID
}

// update changes statuses and tells those who wait.
func (s *Supervisor) update(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	s.changed.Broadcast()
}

// waitUntil returns when condition, called with s.mu held, is true, or with an
// error when ctx has ended.
func (s *Supervisor) waitUntil(ctx context.Context, condition func() bool) error {
	stop := context.AfterFunc(ctx, func() { s.update(func() {}) })
	defer stop()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !condition() {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		s.changed.Wait()
	}
	return nil
}
