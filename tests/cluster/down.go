package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// Down stops the cluster and takes everything of it off the machine. What is
// left is in the state directory: programs, images, and the logs of the last
// run. Down of a cluster that does not run succeeds.
func (c *Cluster) Down(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.step(ctx, "stop", c.down)
}

func (c *Cluster) down(ctx context.Context) error {
	if err := c.stopNode(ctx); err != nil {
		return err
	}
	err := errors.Join(c.unplugCable(), node.RemoveCgroups(c.Plan))
	alone, asked := c.alone()
	if alone {
		err = errors.Join(err, c.watchers().restore())
	}
	err = errors.Join(err, asked)
	if removed := os.Remove(c.Kubeconfig()); removed != nil && !errors.Is(removed, os.ErrNotExist) {
		err = errors.Join(err, fmt.Errorf("remove the kubeconfig: %w", removed))
	}
	return errors.Join(err, c.removeData())
}

// removeData removes what a run leaves in the cluster's directory, but its logs.
func (c *Cluster) removeData() error {
	entries, err := os.ReadDir(c.Dir())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("list the cluster's directory: %w", err)
	}
	for _, entry := range entries {
		if entry.Name() == "logs" {
			continue
		}
		if err := os.RemoveAll(c.Dir(entry.Name())); err != nil {
			return fmt.Errorf("remove the cluster's data: %w", err)
		}
	}
	return nil
}
