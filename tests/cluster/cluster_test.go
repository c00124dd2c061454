package cluster_test

import (
	"bufio"
	"context"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
)

// TestCluster starts a second cluster beside the repository's own, uses it the
// way the other tests and users do, and takes it away again.
func TestCluster(t *testing.T) {
	ctx := t.Context()
	first := newCluster(t, "")
	wasUp := isUp(t, first)
	must(t, first.Up(ctx))
	if !wasUp {
		t.Cleanup(func() { must(t, first.Down(context.Background())) })
	}
	second := newCluster(t, "second")
	must(t, second.Down(ctx))
	oddSetting(t)
	before := snapshot(t, first)
	t.Cleanup(func() { must(t, second.Down(context.Background())) })

	killedUp(t, second)
	must(t, second.Up(ctx))
	t.Run("features", func(t *testing.T) { features(t, second) })
	t.Run("components", func(t *testing.T) { restarts(t, second) })
	t.Run("up again", func(t *testing.T) { upAgain(t, second) })
	if t.Failed() {
		dir, err := os.MkdirTemp("", "cluster-failure-")
		must(t, err)
		t.Logf("logs and state of the cluster: %s (collected with error: %v)", dir, second.Collect(ctx, dir))
	}
	t.Run("down leaves nothing", func(t *testing.T) {
		must(t, second.Down(ctx))
		must(t, second.Down(ctx)) // of nothing
		after := snapshot(t, first)
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("the machine before up and after down (-before +after):\n%s", diff)
		}
	})
	t.Run("the other cluster lives on", func(t *testing.T) {
		for _, s := range status(t, first) {
			if !s.Ready {
				t.Errorf("%s is not ready", s.Name)
			}
		}
		run(t, first.Kubectl(ctx, "get", "nodes"))
	})
}

func newCluster(t *testing.T, name string) *cluster.Cluster {
	t.Helper()
	c, err := cluster.New(cluster.Options{Name: name, Log: t.Output()})
	must(t, err)
	return c
}

func isUp(t *testing.T, c *cluster.Cluster) bool {
	t.Helper()
	running, err := c.Running()
	must(t, err)
	return running
}

// killedUp kills an up at the moment when the node has started, the way an
// impatient user may.
func killedUp(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	cmd := exec.Command(c.Bin("cluster"), "-name", c.Name, "-state", c.State, "up")
	output, err := cmd.StderrPipe()
	must(t, err)
	must(t, cmd.Start())
	lines := bufio.NewScanner(output)
	for lines.Scan() && !strings.Contains(lines.Text(), "start the node") {
	}
	must(t, cmd.Process.Kill())
	if err := cmd.Wait(); err == nil {
		t.Fatal("up was done before it could be killed")
	}
	if !isUp(t, c) {
		t.Error("the node did not outlive the program that started it")
	}
}

// back waits for what a restart can take away for a while: an nft that the old
// kube-proxy left running can empty the maps of the new one, until that writes
// all of them again.
func back(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Errorf("%s: not again within a minute: %v", what, err)
}

// restarts takes each component away by name and gives it back; containers must
// not notice, Services come back, and new pods start.
func restarts(t *testing.T, c *cluster.Cluster) {
	ctx := t.Context()
	for _, name := range []string{"kubelet", "containerd", "kube-apiserver", "kube-proxy"} {
		t.Run(name, func(t *testing.T) {
			starts := find(t, c, name).Starts
			must(t, c.Restart(ctx, name))
			if s := find(t, c, name); !s.Ready || s.Starts != starts+1 {
				t.Errorf("after the restart: %+v", s)
			}
			back(t, "the load balancer's address answers", func() error {
				_, err := fetch("http://" + balanced(t, c)[0])
				return err
			})
			run(t, c.Kubectl(ctx, "run", "after-"+name, "--image=localhost:5000/curl"))
			run(t, c.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "pod/after-"+name))
			back(t, "a pod reaches a Service by its name", func() error {
				return c.Kubectl(ctx, "exec", "client", "--", "curl", "-sS", "--max-time", "5", "http://web").Run()
			})
		})
	}
	t.Run("registry", func(t *testing.T) {
		must(t, c.Restart(ctx, "registry"))
		want(t, run(t, exec.CommandContext(ctx, c.Bin("crane"), "ls", c.MachineRegistry()+"/mine")), "1")
	})
	t.Run("stop and start", func(t *testing.T) {
		must(t, c.Stop(ctx, "kube-scheduler"))
		if s := find(t, c, "kube-scheduler"); s.PID != 0 || s.Ready {
			t.Errorf("after the stop: %+v", s)
		}
		must(t, c.Start(ctx, "kube-scheduler"))
		if s := find(t, c, "kube-scheduler"); !s.Ready {
			t.Errorf("after the start: %+v", s)
		}
	})
	if err := c.Restart(ctx, "nonesuch"); err == nil || !strings.Contains(err.Error(), `no component "nonesuch"`) {
		t.Errorf("restart of a component that does not exist: %v", err)
	}
	restarted := run(t, c.Kubectl(ctx, "get", "pods", "-A", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}"))
	if strings.Trim(restarted, "0 ") != "" {
		t.Errorf("containers were restarted with the components: counts are %s", restarted)
	}
}

// upAgain checks that up on a running cluster changes nothing and is quick.
func upAgain(t *testing.T, c *cluster.Cluster) {
	pids := func() map[string]int {
		m := map[string]int{}
		for _, s := range status(t, c) {
			m[s.Name] = s.PID
		}
		return m
	}
	before, start := pids(), time.Now()
	must(t, c.Up(t.Context()))
	if took := time.Since(start); took > 15*time.Second {
		t.Errorf("up on a running cluster took %s", took)
	}
	if after := pids(); !maps.Equal(before, after) {
		t.Errorf("up on a running cluster changed processes: %v, then %v", before, after)
	}
}
