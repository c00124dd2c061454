// Package e2e runs the samples' scripts and the scripts in testdata against the local cluster.
package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
	"github.com/kubernetes-traffic-manager/traffic/tests/e2e/terminal"
)

// local is the cluster that the scripts run on.
type local struct {
	cluster *cluster.Cluster
	edits   *sync.Map // of a script, by its namespace
}

// Cluster returns the running local cluster of the repository at root. The environment variable CLUSTER names another than
// the one that make up starts.
func Cluster(root string) (*cluster.Cluster, error) {
	c, err := cluster.New(cluster.Options{Name: os.Getenv("CLUSTER"), State: filepath.Join(root, ".local")})
	if err != nil {
		return nil, err
	}
	if _, err := c.Root(); err != nil {
		return nil, fmt.Errorf("make up starts the local cluster: %w", err)
	}
	return c, nil
}

// Config returns the settings for scripts against the local cluster of the repository at root.
func Config(root string) (terminal.Config, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return terminal.Config{}, err
	}
	c, err := Cluster(root)
	if err != nil {
		return terminal.Config{}, err
	}
	l := local{cluster: c, edits: &sync.Map{}}
	return terminal.Config{
		Kubeconfig: c.Kubeconfig(),
		Bin:        c.Bin(),
		Dir:        root,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"crash":   l.crash,
			"unchain": l.unchain,
			"network": l.network,
			"gone":    l.gone,
			"aim":     l.aim,
			"cut":     l.cut,
			"lost":    l.lost,
			"heal":    l.heal,
			"restart": component("restart", c.Restart),
			"away":    component("away", c.Stop),
			"back":    component("back", c.Start),
			"edit":    l.edit,
			"edited":  l.edited,
			"shows":   l.shows,
			"renewed": l.renewed,
		},
		Collect: func(ctx context.Context, script string) (string, error) {
			folder := c.Shared("failures", time.Now().Format("20060102-150405")+"-"+script)
			return folder, c.Collect(ctx, folder)
		},
	}, nil
}
