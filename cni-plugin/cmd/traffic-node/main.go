// Command traffic-node is the node agent: it installs the CNI plugin traffic-cni
// and keeps the injected pods of its node redirected.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/node"
)

func main() {
	os.Exit(run(os.Args[1:]))
}

// run returns 0 after a clean stop, 1 after a failure, 2 when it was called
// wrongly.
func run(args []string) int {
	config, err := node.ParseFlags(args, os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "traffic-node:", err)
		return 2
	}
	if err := os.Setenv(apply.LockVariable, apply.LockFile); err != nil {
		fmt.Fprintln(os.Stderr, "traffic-node:", err)
		return 1
	}
	log := slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: config.LogLevel}))
	klog.SetSlogLogger(log)

	connection, err := connect(config.Kubeconfig)
	if err != nil {
		log.Error("no way to the Kubernetes API", "error", err)
		return 1
	}
	client, err := kubernetes.NewForConfig(connection)
	if err != nil {
		log.Error("no way to the Kubernetes API", "error", err)
		return 1
	}

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	log.Info("starts", "node", config.NodeName, "daemonset", config.DaemonSet.String(), "backend", config.Backend)
	if err := node.New(config, client, log).Run(ctx); err != nil {
		log.Error("failed", "error", err)
		return 1
	}
	return 0
}

func connect(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}
