// Package cluster runs a real, single-node Kubernetes on this machine, in
// network, mount and PID namespaces of its own.
package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// Options choose a cluster. The zero value is the repository's own.
type Options struct {
	Name  string    // default plan.DefaultName
	State string    // directory of everything that is built and run; default .local in the repository
	Net   *int      // the subnet that joins the cluster to the machine, 0 to 255; nil derives it from the name
	Log   io.Writer // takes a line per step; default standard error
}

// Cluster is one cluster of this machine, running or not.
type Cluster struct {
	*plan.Plan
	log io.Writer
}

// New plans a cluster. It starts nothing.
func New(opts Options) (*Cluster, error) {
	if opts.Name == "" {
		opts.Name = plan.DefaultName
	}
	if opts.State == "" {
		root, err := findRoot()
		if err != nil {
			return nil, err
		}
		opts.State = filepath.Join(root, ".local")
	}
	state, err := filepath.Abs(opts.State)
	if err != nil {
		return nil, fmt.Errorf("state directory %q: %w", opts.State, err)
	}
	p, err := plan.New(opts.Name, state, -1)
	if err != nil {
		return nil, err
	}
	if opts.Net == nil {
		opts.Net, err = chosenNet(p)
		if err != nil {
			return nil, err
		}
	}
	if opts.Net != nil {
		p, err = plan.New(opts.Name, state, *opts.Net)
		if err != nil {
			return nil, err
		}
	}
	if opts.Log == nil {
		opts.Log = os.Stderr
	}
	return &Cluster{Plan: p, log: opts.Log}, nil
}

// chosenNet is the subnet that a running cluster was started with, nil if it
// does not run.
func chosenNet(p *plan.Plan) (*int, error) {
	content, err := os.ReadFile(p.Dir("net"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the subnet of cluster %s: %w", p.Name, err)
	}
	net, err := strconv.Atoi(string(content))
	if err != nil {
		return nil, fmt.Errorf("read the subnet of cluster %s: %w", p.Name, err)
	}
	return &net, nil
}

// findRoot is the nearest directory at or above the working directory that
// holds go.work.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the repository: no go.work at or above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
