package bench

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// onePod believes that every token is the same pod's.
type onePod struct{}

func (onePod) Authenticate(context.Context, string) (serve.Identity, error) {
	return serve.Identity{Namespace: "default", ServiceAccount: "default", Pod: "client", UID: "1", NodeID: "client.default"}, nil
}

// serveOne starts the sidecar of pod client in namespace default with an update that a server of its own publishes.
func serveOne(b *testing.B, w *world, update serve.Update) *sidecar {
	b.Helper()
	dir := b.TempDir()
	ca := injected.Certificate(b, dir)
	server, err := serve.New(serve.Config{
		Linger:        serve.Linger,
		Authenticator: onePod{}, CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
		OnReject: func(r serve.Rejection) { b.Errorf("Envoy refused %s: %s", r.Key.Name, r.Message) },
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	listener := w.listen(b, w.pod, "127.0.0.1:0")
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, listener) }()
	b.Cleanup(sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			b.Error(err)
		}
	}))
	server.Publish(update, nil)
	return startSidecar(b, w, "client", "default", "any", ca, portOf(listener))
}

// resources are what the control plane makes of so many Services, each with an open port 80 and the two endpoints.
func resources(b *testing.B, services int, backends [podsEach]endpoint) serve.Update {
	b.Helper()
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogAll})
	if err != nil {
		b.Fatal(err)
	}
	m := mesh.New(mesh.Config{})
	for n := range services {
		s := &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: serviceName(n), Labels: map[string]string{portKey: "http"}},
			Spec: corev1.ServiceSpec{ClusterIP: clusterIPOf(n), ClusterIPs: []string{clusterIPOf(n)}, Ports: []corev1.ServicePort{
				{Name: "http", Port: 80},
			}},
		}
		m.SetService(s)
		e := slice(n, backends, [podsEach]string{podName(n, 0), podName(n, 1)})
		e.Namespace = s.Namespace
		m.SetEndpointSlice(e)
	}
	update, failures := envoy.NewSnapshot(translator).Apply(m.Flush().Ports)
	if len(failures) > 0 {
		b.Fatal(failures)
	}
	return update
}

// clusterIPOf is the address of a Service that no API server chose.
func clusterIPOf(n int) string { return fmt.Sprintf("10.96.%d.%d", n>>8, n&255) }
