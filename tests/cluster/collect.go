package cluster

import "context"

// Collect writes what is needed to understand a failure to the folder dir.
func (c *Cluster) Collect(ctx context.Context, dir string) error { return nil }
