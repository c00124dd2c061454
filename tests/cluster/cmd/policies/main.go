// Command policies enforces the NetworkPolicies of a cluster on its node, which the CNI plugins of a local cluster do not. It runs
// in the node's network namespace: what begins a TCP connection waits in a queue of the kernel for the verdict of
// sigs.k8s.io/kube-network-policies.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

const queue = 100

func main() { os.Exit(run()) }

func run() int {
	kubeconfig := flag.String("kubeconfig", "", "how the API server is reached")
	node := flag.String("node", "", "the node's name")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := enforce(ctx, *kubeconfig, *node); err != nil {
		fmt.Fprintln(os.Stderr, "policies:", err)
		return 1
	}
	return 0
}

// enforce judges connections until ctx is done. Nobody connects while nobody judges.
func enforce(ctx context.Context, kubeconfig, node string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	core := factory.Core().V1()
	controller, err := networkpolicy.NewController(client, factory.Networking().V1().NetworkPolicies(), core.Namespaces(), core.Pods(),
		nil, nil, nil, nil, networkpolicy.Config{NodeName: node, QueueID: queue})
	if err != nil {
		return err
	}
	if err := divert(queue); err != nil {
		return fmt.Errorf("divert what begins a connection: %w", err)
	}
	factory.Start(ctx.Done())
	return controller.Run(ctx)
}
