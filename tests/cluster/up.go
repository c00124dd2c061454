package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/pki"
)

// startTimeout is how long a cluster may take from the start of its first
// process until all of it is ready, on a machine that is busy with other things.
const startTimeout = 5 * time.Minute

// Up builds what is missing, starts the cluster if it does not run, and
// returns when the node, the cluster's DNS and cert-manager are ready. On a
// cluster that is up it changes nothing; a start that was interrupted it
// completes.
func (c *Cluster) Up(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := c.build(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	pid, err := c.pid()
	if err != nil {
		return err
	}
	if pid == 0 {
		if err := c.step(ctx, "start the node", c.start); err != nil {
			return err
		}
	}
	if err := c.complete(ctx); err != nil {
		return fmt.Errorf("%w; logs are in %s", err, c.Dir("logs"))
	}
	return nil
}

// start clears what an earlier run may have left and starts the node.
func (c *Cluster) start(ctx context.Context) error {
	err := errors.Join(c.unplugCable(), c.removeData(), os.RemoveAll(c.Dir("logs")))
	if err != nil {
		return err
	}
	if err := c.watchers().raise(); err != nil {
		return err
	}
	if err := loadBridgeFilter(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(c.Dir(), 0o700); err != nil {
		return fmt.Errorf("create the cluster's directory: %w", err)
	}
	if err := os.WriteFile(c.Dir("net"), []byte(strconv.Itoa(c.Net)), 0o600); err != nil {
		return fmt.Errorf("record the cluster's subnet: %w", err)
	}
	if err := pki.Write(c.Plan); err != nil {
		return err
	}
	return c.startNode(ctx)
}

// Reboot ends everything that runs on the node at once, as a power cut does, and
// starts the node again with what is on its disks: processes, network namespaces and
// /run are gone. It returns when the cluster is ready, as Up does.
func (c *Cluster) Reboot(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = c.step(ctx, "reboot the node", func(ctx context.Context) error {
		if err := c.stopNode(ctx); err != nil {
			return err
		}
		if err := errors.Join(c.unplugCable(), node.RemoveCgroups(c.Plan)); err != nil {
			return err
		}
		return c.startNode(ctx)
	})
	if err != nil {
		return err
	}
	return c.complete(ctx)
}

// complete brings a started node to the state that Up promises.
func (c *Cluster) complete(ctx context.Context) error {
	group, together := errgroup.WithContext(ctx)
	group.Go(func() error {
		return c.step(together, "push images", func(ctx context.Context) error {
			if err := until(ctx, c.componentReady("registry")); err != nil {
				return err
			}
			return c.pushImages(ctx)
		})
	})
	group.Go(func() error {
		wait := func(ctx context.Context) error { return until(ctx, c.componentReady("kube-apiserver")) }
		if err := c.step(together, "API server ready", wait); err != nil {
			return err
		}
		return c.step(together, "apply DNS and cert-manager", c.apply)
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return c.waitReady(ctx)
}

// componentReady makes a question whether a component serves.
func (c *Cluster) componentReady(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		list, err := c.Status(ctx)
		if err != nil {
			return err
		}
		for _, s := range list {
			if s.Name != name {
				continue
			}
			if s.Ready {
				return nil
			}
			return fmt.Errorf("%s is not ready; starts so far: %d, last exit: %q, log: %s", name, s.Starts, s.LastExit, c.Log(name))
		}
		return fmt.Errorf("the node has no component %s", name)
	}
}
