package cluster

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"os"
	"os/exec"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

//go:embed manifests/*.yaml
var manifests embed.FS

// workloads are the Deployments that every cluster has, by namespace.
var workloads = [][2]string{
	{"kube-system", "coredns"},
	{"cert-manager", "cert-manager-controller"},
	{"cert-manager", "cert-manager-cainjector"},
}

// Config is the administrator's client configuration, for client-go.
func (c *Cluster) Config() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config.QPS, config.Burst = -1, -1 // no limit: the only user of its own cluster
	return config, nil
}

// Client is the administrator's client.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	config, err := c.Config()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

// Kubectl prepares a run of the cluster's own kubectl as its administrator.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	return exec.CommandContext(ctx, c.Bin("kubectl"), append([]string{"--kubeconfig", c.Kubeconfig()}, args...)...)
}

// apply creates the objects that every cluster has, once.
func (c *Cluster) apply(ctx context.Context) error {
	var all []byte
	for _, name := range []string{"coredns.yaml", "cert-manager.yaml"} {
		content, err := manifests.ReadFile("manifests/" + name)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		all = append(append(all, "---\n"...), content...)
	}
	crds, err := os.ReadFile(c.Bin(".cert-manager-crds.yaml"))
	if err != nil {
		return fmt.Errorf("read cert-manager's resource definitions: %w", err)
	}
	all = append(all, crds...)
	sum := fmt.Sprintf("%x", sha256.Sum256(all))
	if applied, err := os.ReadFile(c.Dir("applied")); err == nil && string(applied) == sum {
		return nil
	}
	if err := c.kubectlApply(ctx, all); err != nil {
		return err
	}
	return os.WriteFile(c.Dir("applied"), []byte(sum), 0o644)
}

func (c *Cluster) kubectlApply(ctx context.Context, objects []byte) error {
	kubectl := c.Kubectl(ctx, "apply", "--server-side", "--force-conflicts", "--validate=false", "-f", "-")
	kubectl.Stdin = bytes.NewReader(objects)
	if out, err := kubectl.CombinedOutput(); err != nil {
		return fmt.Errorf("kubectl apply: %w\n%s", err, out)
	}
	return nil
}

// waitReady returns when the node and the cluster's workloads are ready.
func (c *Cluster) waitReady(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	node := func(ctx context.Context) error {
		return until(ctx, func(ctx context.Context) error { return nodeReady(ctx, client, c.Name) })
	}
	if err := c.step(ctx, "node ready", node); err != nil {
		return err
	}
	for _, w := range workloads {
		wait := func(ctx context.Context) error {
			return until(ctx, func(ctx context.Context) error { return deploymentReady(ctx, client, w[0], w[1]) })
		}
		if err := c.step(ctx, w[1]+" ready", wait); err != nil {
			return err
		}
	}
	return nil
}

func nodeReady(ctx context.Context, client kubernetes.Interface, name string) error {
	node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && condition.Status == corev1.ConditionTrue {
			return nil
		}
		if condition.Type == corev1.NodeReady {
			return errors.New(condition.Message)
		}
	}
	return fmt.Errorf("node %s has no status yet", name)
}

func deploymentReady(ctx context.Context, client kubernetes.Interface, namespace, name string) error {
	d, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if d.Status.ObservedGeneration < d.Generation || !available(d) {
		return fmt.Errorf("deployment %s/%s has %d of %d ready pods", namespace, name, d.Status.ReadyReplicas, *d.Spec.Replicas)
	}
	return nil
}

func available(d *appsv1.Deployment) bool {
	return d.Status.UpdatedReplicas == *d.Spec.Replicas && d.Status.AvailableReplicas == *d.Spec.Replicas
}
