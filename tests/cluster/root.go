package cluster

import (
	"errors"
	"fmt"
)

// Root is the node's file system as a path on this machine, for tests that change what is on the node.
func (c *Cluster) Root() (string, error) {
	pid, err := c.pid()
	if err != nil || pid == 0 {
		return "", errors.Join(ErrDown, err)
	}
	return fmt.Sprintf("/proc/%d/root", pid), nil
}
