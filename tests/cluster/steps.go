package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// step runs one step and says how long it took.
func (c *Cluster) step(ctx context.Context, name string, run func(context.Context) error) error {
	start := time.Now()
	if err := run(ctx); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(c.log, "%-10s %-40s %6.1fs\n", c.Name, name, time.Since(start).Seconds())
	return nil
}

// until asks every 50 ms until the answer is nil, the cluster is down, or ctx
// ends.
func until(ctx context.Context, ask func(context.Context) error) error {
	for {
		err := ask(ctx)
		if err == nil || errors.Is(err, ErrDown) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w; last answer: %w", ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
