package cluster

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/build"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/images"
)

// Build makes every program and image that is missing or of another version.
func (c *Cluster) Build(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	return c.build(ctx)
}

func (c *Cluster) build(ctx context.Context) error {
	root, err := findRoot()
	if err != nil {
		return err
	}
	b := &build.Builder{Root: root, Bin: c.Bin(), Timed: c.step}
	if err := b.Programs(ctx); err != nil {
		return err
	}
	if err := c.step(ctx, "build cluster", func(ctx context.Context) error { return c.buildSelf(ctx, root) }); err != nil {
		return err
	}
	var steps []build.Step
	for _, image := range images.All(c.Bin()) {
		steps = append(steps, image.Step(c.imageDir()))
	}
	return b.Do(ctx, steps)
}

// Zipkin builds Zipkin and puts its image into the running cluster's registry.
func (c *Cluster) Zipkin(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b := &build.Builder{Bin: c.Bin(), Timed: c.step}
	if err := b.Zipkin(ctx); err != nil {
		return err
	}
	return c.provide(ctx, b, images.Zipkin(c.Bin()))
}

// Runc builds the newer runc that a node has, from its next start on, for pods whose
// RuntimeClass has the handler node.NewerRunc.
func (c *Cluster) Runc(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	b := &build.Builder{Bin: c.Bin(), Timed: c.step}
	return b.Runc(ctx)
}

// provide makes an image and puts it into the running cluster's registry.
func (c *Cluster) provide(ctx context.Context, b *build.Builder, image images.Image) error {
	if err := b.Do(ctx, []build.Step{image.Step(c.imageDir())}); err != nil {
		return err
	}
	return image.Push(ctx, c.imageDir(), c.MachineRegistry())
}

// imageDir is where the images are kept that are pushed at every start.
func (c *Cluster) imageDir() string { return c.Shared("images") }

// buildSelf builds this very program, which also runs inside the node. Go's
// build cache knows whether anything changed.
func (c *Cluster) buildSelf(ctx context.Context, root string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", c.Bin("cluster"), "./cluster/cmd/cluster")
	cmd.Dir = filepath.Join(root, "tests")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the cluster program: %w\n%s", err, out)
	}
	return nil
}

// pushImages puts the images into the cluster's registry.
func (c *Cluster) pushImages(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, image := range images.All(c.Bin()) {
		group.Go(func() error { return image.Push(ctx, c.imageDir(), c.MachineRegistry()) })
	}
	return group.Wait()
}
