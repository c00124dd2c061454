package node

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// supervise runs components outside of any namespace until the test ends.
func supervise(t *testing.T, components ...Component) *Supervisor {
	t.Helper()
	p, err := plan.New("test", t.TempDir(), -1)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{p.Dir("logs"), p.Dir("tmp")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := newSupervisor(p, components)
	for _, c := range s.all {
		go s.run(t.Context(), c)
	}
	t.Cleanup(func() {
		for _, name := range s.order {
			if err := s.Stop(context.Background(), name); err != nil {
				t.Error(err)
			}
		}
	})
	return s
}

func shell(name, script string, needs ...string) Component {
	return Component{Name: name, Args: []string{"/bin/sh", "-c", script}, Needs: needs}
}

// eventually waits at most ten seconds for a component to be as wanted.
func eventually(t *testing.T, s *Supervisor, name string, want func(Status) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if s.waitUntil(ctx, func() bool { return want(s.all[name].status) }) != nil {
		t.Errorf("%s: status is %+v", name, s.Statuses())
	}
}

// A kubelet that crashes must come back by itself, as under systemd.
func TestCrashedComponentStartsAgain(t *testing.T) {
	s := supervise(t, shell("crash", "exit 3"))
	eventually(t, s, "crash", func(c Status) bool { return c.Starts >= 2 && c.LastExit == "exit status 3" })
}

// Components that start before what they need end and lose seconds.
func TestComponentsWaitForTheirNeeds(t *testing.T) {
	ready := make(chan struct{})
	slow := shell("slow", "exec sleep 60")
	slow.Ready = func(context.Context) error {
		select {
		case <-ready:
			return nil
		default:
			return errors.New("not yet")
		}
	}
	s := supervise(t, slow, shell("next", "exec sleep 60", "slow"))
	eventually(t, s, "slow", func(c Status) bool { return c.PID != 0 && !c.Ready })
	if next := s.Statuses()[1]; next.Starts != 0 {
		t.Errorf("started before what it needs was ready: %+v", next)
	}
	close(ready)
	eventually(t, s, "next", func(c Status) bool { return c.Ready })
}

// A stopped component stays down: tests rely on it being away.
func TestStoppedComponentStaysDown(t *testing.T) {
	s := supervise(t, shell("one", "exec sleep 60"))
	eventually(t, s, "one", func(c Status) bool { return c.Ready })
	if err := s.Stop(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if c := s.Statuses()[0]; c.PID != 0 || c.Ready || c.Wanted {
		t.Errorf("after the stop: %+v", c)
	}
	if err := s.Start(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if c := s.Statuses()[0]; !c.Ready || c.Starts != 2 {
		t.Errorf("after the start: %+v", c)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	broken := s.all["one"]
	s.update(func() { broken.Args = []string{"/nonexistent"} })
	if err := s.Stop(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if err := s.Start(ctx, "one"); !errors.Is(err, context.Canceled) {
		t.Errorf("start of a component that cannot start, by somebody who gave up: %v", err)
	}
}
