package admission_test

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/webhook/admit"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// A collector keeps what is said: the warnings of the API server, or the paths that it calls.
type collector struct {
	mu   sync.Mutex
	said []string
}

func (c *collector) add(text string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.said = append(c.said, text)
}

// take returns what was said since the last time, sorted.
func (c *collector) take() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	said := c.said
	c.said = nil
	slices.Sort(said)
	return said
}

// HandleWarningHeaderWithContext is called by the client for each warning.
func (c *collector) HandleWarningHeaderWithContext(_ context.Context, _ int, _, text string) {
	c.add(text)
}

// A cluster is an API server with our webhook.
type cluster struct {
	client          kubernetes.Interface
	calls, warnings *collector
	webhook         *httptest.Server
}

func newCluster(t testing.TB) *cluster {
	t.Helper()
	c := &cluster{calls: &collector{}, warnings: &collector{}}
	var injector *inject.Injector
	handler := admit.New(admit.Config{
		Injector: func() *inject.Injector { return injector }, CopyWorkloadLabel: true,
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Metrics: prometheus.NewRegistry(),
	})
	c.webhook = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c.calls.add(r.URL.Path)
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(c.webhook.Close)
	var err error
	injector, err = inject.New(inject.Config{
		ProxyImage: "envoy", VerifyImage: "verify", ImagePullPolicy: corev1.PullIfNotPresent, Verify: true, ProxyUID: 1337,
		ProxyPort: 10000, StatsPort: 8900, Concurrency: 2, LogLevel: "warning", IPv6: true, OutboundPolicy: inject.Block,
		ControlHost: "traffic-control.traffic-system.svc", ControlPort: 18000, CA: []*x509.Certificate{c.webhook.Certificate()},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.client = apiServer(t, c.warnings)
	eventually(t, "kube-system is there", func(ctx context.Context) error {
		_, err := c.client.CoreV1().Namespaces().Get(ctx, "kube-system", metav1.GetOptions{})
		return err
	})
	optedIn := map[string]string{"traffic.envoy.enabled": "TRUE"}
	for name, labels := range map[string]map[string]string{"shop": nil, "joined": optedIn, "traffic-system": optedIn, "cert-manager": optedIn, "kube-system": nil} {
		if name != "kube-system" {
			c.must(t)(c.client.CoreV1().Namespaces().Create(t.Context(),
				&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}, metav1.CreateOptions{}))
		}
		// A controller would make it; no pod is admitted without.
		c.must(t)(c.client.CoreV1().ServiceAccounts(name).Create(t.Context(),
			&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "default"}}, metav1.CreateOptions{}))
	}
	c.register(t)
	return c
}

// register gives the API server the entries of the chart, with the test's webhook as their target.
func (c *cluster) register(t testing.TB) {
	t.Helper()
	r := admit.Registration{Namespace: "traffic-system", CertManagerNamespace: "cert-manager", CopyWorkloadLabel: true}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.webhook.Certificate().Raw})
	target := func(config *admissionregistrationv1.WebhookClientConfig) {
		*config = admissionregistrationv1.WebhookClientConfig{URL: new(c.webhook.URL + *config.Service.Path), CABundle: ca}
	}
	mutating, validating := r.Mutating(), r.Validating()
	for i := range mutating {
		target(&mutating[i].ClientConfig)
	}
	for i := range validating {
		target(&validating[i].ClientConfig)
	}
	registrations, meta := c.client.AdmissionregistrationV1(), metav1.ObjectMeta{Name: "traffic-webhook"}
	c.must(t)(registrations.MutatingWebhookConfigurations().Create(t.Context(),
		&admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: meta, Webhooks: mutating}, metav1.CreateOptions{}))
	c.must(t)(registrations.ValidatingWebhookConfigurations().Create(t.Context(),
		&admissionregistrationv1.ValidatingWebhookConfiguration{ObjectMeta: meta, Webhooks: validating}, metav1.CreateOptions{}))
	eventually(t, "the API server calls the webhook", func(context.Context) error {
		probe := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "probe-", Labels: map[string]string{"traffic.envoy.enabled": "x"}}, Spec: spec}
		c.must(t)(c.client.CoreV1().Pods("joined").Create(t.Context(), probe, metav1.CreateOptions{}))
		if calls := c.calls.take(); len(calls) < 2 {
			return fmt.Errorf("it calls %q", calls)
		}
		return nil
	})
	c.warnings.take()
}

var spec = corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "app"}}}

// must fails the test on an error.
func (c *cluster) must(t testing.TB) func(any, error) {
	return func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// resources are the paths of the kinds that the test writes.
var resources = map[string]string{
	"Pod": "/api/v1/namespaces/%s/pods", "Service": "/api/v1/namespaces/%s/services", "Namespace": "/api/v1/namespaces",
	"Deployment": "/apis/apps/v1/namespaces/%s/deployments", "DaemonSet": "/apis/apps/v1/namespaces/%s/daemonsets",
	"ReplicaSet": "/apis/apps/v1/namespaces/%s/replicasets", "Job": "/apis/batch/v1/namespaces/%s/jobs",
	"CronJob": "/apis/batch/v1/namespaces/%s/cronjobs", "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/%s/endpointslices",
	"Ingress": "/apis/networking.k8s.io/v1/namespaces/%s/ingresses",
}

func (c *cluster) create(namespace, object string) error {
	raw, err := yaml.YAMLToJSON([]byte(object))
	if err != nil {
		return err
	}
	var meta metav1.TypeMeta
	if err := json.Unmarshal(raw, &meta); err != nil {
		return err
	}
	path := strings.Replace(resources[meta.Kind], "%s", namespace, 1)
	return c.client.Discovery().RESTClient().Post().AbsPath(path).Body(raw).SetHeader("Content-Type", "application/json").
		Do(context.Background()).Error()
}

// update sends a merge patch to an object such as "Deployment/web", or to a subresource such as "Deployment/web/status".
func (c *cluster) update(namespace, object, patch string) error {
	kind, name, _ := strings.Cut(object, "/")
	path := strings.Replace(resources[kind], "%s", namespace, 1) + "/" + name
	raw, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		return err
	}
	return c.client.Discovery().RESTClient().Patch(types.MergePatchType).AbsPath(path).Body(raw).Do(context.Background()).Error()
}
