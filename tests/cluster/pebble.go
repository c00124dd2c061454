package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/build"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/images"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/pki"
)

// Pebble builds Pebble, an ACME server, and runs it in the cluster, where it is
// what Let's Encrypt is elsewhere. It returns when it answers.
func (c *Cluster) Pebble(ctx context.Context) error {
	unlock, err := c.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	root, err := findRoot()
	if err != nil {
		return err
	}
	b := &build.Builder{Root: root, Bin: c.Bin(), Timed: c.step}
	if err := b.Pebble(ctx); err != nil {
		return err
	}
	if err := c.provide(ctx, b, images.Pebble(c.Bin())); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	return c.step(ctx, "start pebble", c.startPebble)
}

func (c *Cluster) startPebble(ctx context.Context) error {
	objects, err := manifests.ReadFile("manifests/pebble.yaml")
	if err != nil {
		return fmt.Errorf("read the manifest of pebble: %w", err)
	}
	secret, err := c.pebbleSecret()
	if err != nil {
		return err
	}
	if err := c.kubectlApply(ctx, append(append(objects, "---\n"...), secret...)); err != nil {
		return err
	}
	client, err := c.Client()
	if err != nil {
		return err
	}
	return until(ctx, func(ctx context.Context) error { return deploymentReady(ctx, client, pki.PebbleNamespace, "pebble") })
}

// pebbleSecret has the certificate that Pebble itself serves with.
func (c *Cluster) pebbleSecret() ([]byte, error) {
	secret := corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: "pebble", Namespace: pki.PebbleNamespace},
		Type:       corev1.SecretTypeTLS,
		Data:       map[string][]byte{},
	}
	for key, file := range map[string]string{corev1.TLSCertKey: "pebble.crt", corev1.TLSPrivateKeyKey: "pebble.key"} {
		content, err := os.ReadFile(c.Dir("pki", file))
		if err != nil {
			return nil, fmt.Errorf("read pebble's certificate, which a cluster gets when it starts: %w; cluster down and cluster up make one", err)
		}
		secret.Data[key] = content
	}
	return json.Marshal(secret)
}
