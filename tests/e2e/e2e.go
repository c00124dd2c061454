// Package e2e runs the samples' scripts and the scripts in testdata against the local cluster.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
	"github.com/kubernetes-traffic-manager/traffic/tests/e2e/terminal"
)

// Config returns the settings for scripts against the local cluster of the repository at root.
func Config(root string) (terminal.Config, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return terminal.Config{}, err
	}
	state := filepath.Join(root, ".local")
	kubeconfig := filepath.Join(state, "kubeconfig")
	if _, err := os.Stat(kubeconfig); err != nil {
		return terminal.Config{}, fmt.Errorf("the local cluster is not up, make up starts it: %w", err)
	}
	return terminal.Config{
		Kubeconfig: kubeconfig,
		Bin:        filepath.Join(state, "bin"),
		Vars:       []string{"ROOT=" + root},
		Dir:        root,
		Cmds:       map[string]func(*testscript.TestScript, bool, []string){"crash": crash},
		Collect: func(ctx context.Context, script string) (string, error) {
			folder := filepath.Join(state, "failures", time.Now().Format("20060102-150405")+"-"+script)
			return folder, cluster.New(cluster.Options{State: state}).Collect(ctx, folder)
		},
	}, nil
}
