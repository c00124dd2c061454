package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// shows is the script command "shows PROGRAM PORT": it waits until every pod of the program shows, to whoever connects to the
// port, the certificate that its Secret has.
func (l local) shows(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: shows program port")
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	client, err := l.cluster.Client()
	ts.Check(err)
	root, err := l.cluster.Root()
	ts.Check(err)
	secret, err := client.CoreV1().Secrets(product).Get(ctx, args[0]+"-tls", metav1.GetOptions{})
	ts.Check(err)
	want, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if want == nil {
		ts.Fatalf("Secret %s has no certificate", secret.Name)
	}
	pods, err := client.CoreV1().Pods(product).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + args[0]})
	ts.Check(err)
	if len(pods.Items) == 0 {
		ts.Fatalf("there is no pod of %s", args[0])
	}
	for _, pod := range pods.Items {
		for {
			got, err := shown(ctx, filepath.Join(filepath.Dir(root), "ns/net"), net.JoinHostPort(pod.Status.PodIP, args[1]))
			if err == nil && bytes.Equal(got, want.Bytes) {
				break
			}
			if ctx.Err() != nil {
				ts.Fatalf("pod %s does not show the certificate of Secret %s: %v", pod.Name, secret.Name, err)
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// shown is the certificate that a server shows to who connects from a network namespace.
func shown(ctx context.Context, network, address string) ([]byte, error) {
	conn, err := dialer(network)(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("from the node: %w", err)
	}
	secure := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	defer secure.Close()
	if err := secure.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	chain := secure.ConnectionState().PeerCertificates
	if len(chain) == 0 {
		return nil, errors.New("no certificate")
	}
	return chain[0].Raw, nil
}
