// Package admission_test asks a real API server which requests it sends to the webhook, and what it makes of the answers.
package admission_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// programs is where the local cluster's are.
const programs = "../../.local/bin"

const (
	patience = 60 * time.Second
	token    = "test"
)

// apiServer starts etcd and an API server on loopback, and returns a client with all rights. Warnings go to the collector.
func apiServer(t testing.TB, warnings *collector) kubernetes.Interface {
	t.Helper()
	dir := t.TempDir()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{
		"sa.key": pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}),
		"tokens": []byte(token + ",admin,admin,system:masters\n"),
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	etcd, peers, secure := freeAddress(t), freeAddress(t), freeAddress(t)
	start(t, "etcd", "--data-dir="+filepath.Join(dir, "etcd"), "--unsafe-no-fsync", "--listen-client-urls=http://"+etcd,
		"--advertise-client-urls=http://"+etcd, "--listen-peer-urls=http://"+peers, "--initial-advertise-peer-urls=http://"+peers,
		"--initial-cluster=default=http://"+peers)
	_, port, err := net.SplitHostPort(secure)
	if err != nil {
		t.Fatal(err)
	}
	start(t, "kube-apiserver", "--etcd-servers=http://"+etcd, "--bind-address=127.0.0.1", "--secure-port="+port,
		"--advertise-address=192.0.2.1", "--cert-dir="+dir, "--token-auth-file="+filepath.Join(dir, "tokens"),
		"--service-account-issuer=https://test", "--service-account-key-file="+filepath.Join(dir, "sa.key"),
		"--service-account-signing-key-file="+filepath.Join(dir, "sa.key"), "--service-cluster-ip-range=10.96.0.0/16",
		"--shutdown-delay-duration=0s")
	client, err := kubernetes.NewForConfig(&rest.Config{
		Host: "https://" + secure, BearerToken: token, TLSClientConfig: rest.TLSClientConfig{Insecure: true},
		QPS: 1000, Burst: 1000, WarningHandlerWithContext: warnings,
	})
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the API server is ready", func(ctx context.Context) error {
		return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
	})
	return client
}

// start runs a program until the test ends.
func start(t testing.TB, name string, args ...string) {
	t.Helper()
	command := exec.Command(filepath.Join(programs, name), args...)
	var output bytes.Buffer
	command.Stdout, command.Stderr = &output, &output
	command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := command.Start(); err != nil {
		t.Fatalf("%v; make up builds what is missing", err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("%s ended with:\n%s", name, output.Bytes()[max(0, output.Len()-4000):])
		}
	})
}

func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// eventually tries until there is no error.
func eventually(t testing.TB, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatal(fmt.Errorf("not in %s: %s: %w", patience, what, err))
		case <-ticker.C:
		}
	}
}
