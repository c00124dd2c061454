// Command cluster builds, starts and stops a real Kubernetes on this machine.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sort"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/balancer"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

func main() { os.Exit(run()) }

// verb is one thing that the program does.
type verb struct {
	args string
	help string // empty for the verbs that only the program itself uses
	do   func(ctx context.Context, c *cluster.Cluster, args []string) error
}

var verbs = map[string]verb{
	"build":   {"", "build every program and image that is missing", func(ctx context.Context, c *cluster.Cluster, _ []string) error { return c.Build(ctx) }},
	"up":      {"", "build, start, and wait until the cluster is ready", func(ctx context.Context, c *cluster.Cluster, _ []string) error { return c.Up(ctx) }},
	"down":    {"", "stop, and leave nothing on the machine but .local", func(ctx context.Context, c *cluster.Cluster, _ []string) error { return c.Down(ctx) }},
	"zipkin":  {"", "build Zipkin and push its image, which the sample of tracing runs", func(ctx context.Context, c *cluster.Cluster, _ []string) error { return c.Zipkin(ctx) }},
	"pebble":  {"", "build Pebble and run it in the cluster, the ACME server of the sample of ACME and of the demo", func(ctx context.Context, c *cluster.Cluster, _ []string) error { return c.Pebble(ctx) }},
	"status":  {"", "list the node's components", status},
	"start":   {"COMPONENT", "start a stopped component and wait until it is ready", onComponent((*cluster.Cluster).Start)},
	"stop":    {"COMPONENT", "stop a component until it is started again", onComponent((*cluster.Cluster).Stop)},
	"restart": {"COMPONENT", "stop and start a component and wait until it is ready", onComponent((*cluster.Cluster).Restart)},
	"reboot":  {"", "end all that runs on the node at once, and start it again with its disks", func(ctx context.Context, c *cluster.Cluster, _ []string) error { return c.Reboot(ctx) }},
	"collect": {"DIR", "write logs, events and network state to a folder", onComponent((*cluster.Cluster).Collect)},

	"node-init":      {do: nodeInit},
	"node-supervise": {do: nodeSupervise},
	"registry":       {do: serveRegistry},
	"load-balancer":  {do: balance},
}

func run() int {
	name := flag.String("name", "", "the cluster's `name` (default traffic)")
	state := flag.String("state", "", "the `directory` of everything built and run (default .local in the repository)")
	net := flag.Int("net", -1, "the subnet `number` that joins the cluster to the machine, 0 to 255 (default: from the name)")
	flag.Usage = usage
	flag.Parse()
	v, ok := verbs[flag.Arg(0)]
	if !ok || (v.args == "") != (flag.NArg() == 1) || flag.NArg() > 2 {
		usage()
		return 2
	}
	opts := cluster.Options{Name: *name, State: *state}
	if *net >= 0 {
		opts.Net = net
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	c, err := cluster.New(opts)
	if err == nil {
		err = v.do(ctx, c, flag.Args()[1:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		return 1
	}
	return 0
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: cluster [-name NAME] [-state DIR] [-net N] VERB")
	var names []string
	for name, v := range verbs {
		if v.help != "" {
			names = append(names, name)
		}
	}
	sort.Strings(names)
	for _, name := range names {
		fmt.Fprintf(os.Stderr, "  %-20s %s\n", strings.TrimSpace(name+" "+verbs[name].args), verbs[name].help)
	}
	flag.PrintDefaults()
}

func status(ctx context.Context, c *cluster.Cluster, _ []string) error {
	list, err := c.Status(ctx)
	if err != nil {
		return err
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "COMPONENT\tREADY\tSTARTS\tAGE\tLAST EXIT")
	for _, s := range list {
		age := "-"
		if s.PID != 0 {
			age = time.Since(s.Since).Round(time.Second).String()
		}
		fmt.Fprintf(w, "%s\t%t\t%d\t%s\t%s\n", s.Name, s.Ready, s.Starts, age, s.LastExit)
	}
	return w.Flush()
}

func onComponent(do func(*cluster.Cluster, context.Context, string) error) func(context.Context, *cluster.Cluster, []string) error {
	return func(ctx context.Context, c *cluster.Cluster, args []string) error { return do(c, ctx, args[0]) }
}

func nodeInit(_ context.Context, c *cluster.Cluster, _ []string) error {
	// Not /proc/self/exe, which would keep its name across a rebuild.
	return node.Init(c.Plan, c.Bin("cluster"), "-name", c.Name, "-state", c.State, "-net", fmt.Sprint(c.Net), "node-supervise")
}

func nodeSupervise(ctx context.Context, c *cluster.Cluster, _ []string) error {
	return node.Supervise(ctx, c.Plan, c.Bin("cluster"))
}

func serveRegistry(ctx context.Context, c *cluster.Cluster, _ []string) error {
	return node.ServeRegistry(ctx, c.Plan)
}

func balance(ctx context.Context, c *cluster.Cluster, _ []string) error {
	config, err := clientcmd.BuildConfigFromFlags("", c.NodeKubeconfig("load-balancer"))
	if err != nil {
		return fmt.Errorf("read the load balancer's kubeconfig: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return errors.Join(errors.New("make the load balancer's client"), err)
	}
	return balancer.Run(ctx, client, balancer.Range{V4: c.BalancerV4(), V6: c.BalancerV6()})
}
