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

func newCluster(t *testing.T) *cluster {
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
func (c *cluster) register(t *testing.T) {
	t.Helper()
	r := admit.Registration{Namespace: "traffic-system", CertManagerNamespace: "cert-manager"}
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
func (c *cluster) must(t *testing.T) func(any, error) {
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

const (
	deployment = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: app}]}}}}`
	daemonSet = `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent, labels: {traffic.envoy.enabled: "true"}}, spec: {selector: {matchLabels: {app: agent}},
		template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: app, image: app}]}}}}`
	job = `{apiVersion: batch/v1, kind: Job, metadata: {name: once, labels: {traffic.envoy.enabled: "true"}},
		spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: app}]}}}}`
	cronJob = `{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly, labels: {traffic.envoy.enabled: "true"}},
		spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: app}]}}}}}}`
	service = `{apiVersion: v1, kind: Service, metadata: {name: web, labels: {traffic.port.80: http}}, spec: {ports: [{port: 80}]}}`
	slice   = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: {traffic.port.80: http}}, addressType: IPv4, endpoints: []}`
)

func pod(name, labels, more string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {%s}%s}, spec: {containers: [{name: app, image: app}]}}`, name, labels, more)
}

const (
	in    = "/inject"
	load  = "/workload"
	warn  = "/warn"
	owner = `, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: "1", controller: true}]`
)

// TestAdmission shares one API server; the webhook is taken away last.
func TestAdmission(t *testing.T) {
	c := newCluster(t)
	t.Run("requests", c.whichRequestsAreSent)
	t.Run("spellings", c.everySpelling)
	t.Run("warnings", c.warningsReachTheTerminal)
	t.Run("away", c.webhookAway)
}

// whichRequestsAreSent: those that opt in, or change a label; nobody else depends on the webhook, and nobody is called twice
// for one request.
func (c *cluster) whichRequestsAreSent(t *testing.T) {
	on, off, yes := `traffic.envoy.enabled: "true"`, `traffic.envoy.enabled: "False"`, `traffic.envoy.enabled: "yes"`
	for _, step := range []struct {
		what, namespace string
		object          string // to create
		update, patch   string // or to change
		want            []string
	}{
		{what: "a pod that did not opt in", object: pod("plain", "app: web", "")},
		{what: "a pod that did", object: pod("labelled", on, ""), want: []string{in, warn}},
		{what: "a pod that a controller makes", object: pod("owned", on, owner), want: []string{in}},
		{what: "the kubelet writes its status", update: "Pod/labelled/status", patch: `{status: {message: x}}`},
		{what: "a scheduler annotates it", update: "Pod/labelled", patch: `{metadata: {annotations: {a: b}}}`},
		{what: "somebody weighs it", update: "Pod/labelled", patch: `{metadata: {labels: {traffic.endpoint.weight: "0"}}}`, want: []string{warn}},
		{what: "the last label goes", update: "Pod/labelled", patch: `{metadata: {labels: null}}`, want: []string{warn}},
		{what: "a mirror pod", object: strings.Replace(pod("mirror", on, `, annotations: {kubernetes.io/config.mirror: x}`), "spec: {", "spec: {nodeName: node1, ", 1), want: []string{warn}},
		{what: "a pod of the namespace", namespace: "joined", object: pod("plain", "app: web", ""), want: []string{in}},
		{what: "one that stays out", namespace: "joined", object: pod("out", off, ""), want: []string{warn}},
		{what: "one that joins twice", namespace: "joined", object: pod("both", on, ""), want: []string{in, warn}},
		{what: "one with a slip", namespace: "joined", object: pod("slip", yes, ""), want: []string{in, warn}},
		{what: "a slip alone", object: pod("slip", yes, ""), want: []string{warn}},
		{what: "kube-system", namespace: "kube-system", object: pod("labelled", on, "")},
		{what: "the release itself", namespace: "traffic-system", object: pod("labelled", on, "")},
		{what: "cert-manager", namespace: "cert-manager", object: pod("labelled", on, "")},

		{what: "a deployment", object: deployment},
		{what: "its label", update: "Deployment/web", patch: `{metadata: {labels: {traffic.envoy.enabled: "true"}}}`, want: []string{warn, load}},
		{what: "the controller's annotation", update: "Deployment/web", patch: `{metadata: {annotations: {deployment.kubernetes.io/revision: "2"}}}`},
		{what: "its status", update: "Deployment/web/status", patch: `{status: {observedGeneration: 1}}`},
		{what: "its scale", update: "Deployment/web/scale", patch: `{spec: {replicas: 3}}`},
		{what: "a new image", update: "Deployment/web", patch: `{spec: {template: {spec: {containers: [{name: app, image: new}]}}}}`},
		{what: "another label", update: "Deployment/web", patch: `{metadata: {labels: {team: a}}}`, want: []string{warn}},
		{what: "a rollback drops the copy", update: "Deployment/web", patch: `{spec: {template: {metadata: {labels: {traffic.envoy.enabled: null}, annotations: null}}}}`, want: []string{load}},
		{what: "the label goes", update: "Deployment/web", patch: `{metadata: {labels: {traffic.envoy.enabled: null}}}`, want: []string{warn, load}},
		{what: "an unlabelled deployment changes", update: "Deployment/web", patch: `{spec: {replicas: 1}}`},
		{what: "a labelled daemon set", object: daemonSet, want: []string{warn, load}},
		{what: "a job", object: job, want: []string{warn, load}},
		{what: "a cron job", object: cronJob, want: []string{warn, load}},
		{what: "a workload of the release", namespace: "traffic-system", object: daemonSet},

		{what: "a service", object: service, want: []string{warn}},
		{what: "its selector", update: "Service/web", patch: `{spec: {selector: {app: web}}}`},
		{what: "its endpoints", object: slice},
		{what: "a namespace", update: "Namespace/shop", patch: `{metadata: {labels: {traffic.envoy.enabled: "false"}}}`, want: []string{warn}},
		{what: "another label of it", update: "Namespace/shop", patch: `{metadata: {annotations: {a: b}}}`},
	} {
		namespace := step.namespace
		if namespace == "" {
			namespace = "shop"
		}
		var err error
		if step.object != "" {
			err = c.create(namespace, step.object)
		} else {
			err = c.update(namespace, step.update, step.patch)
		}
		if err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		got := c.calls.take()
		if step.update != "" {
			got = slices.Compact(got) // the API server starts over when its cache was behind
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: the API server called %q, want %q", step.what, got, step.want)
		}
	}
}

// everySpelling: each of the spellings of true injects a pod, each of false keeps it out of a namespace that opted in.
func (c *cluster) everySpelling(t *testing.T) {
	for word, want := range map[string]bool{"true": true, "false": false} {
		for n := range 1 << len(word) {
			value := []byte(word)
			for i := range value {
				if n>>i&1 == 1 {
					value[i] -= 'a' - 'A'
				}
			}
			name := fmt.Sprintf("%s-%d", word, n)
			namespace := map[bool]string{true: "shop", false: "joined"}[want]
			if err := c.create(namespace, pod(name, fmt.Sprintf("traffic.envoy.enabled: %q", value), owner)); err != nil {
				t.Fatal(err)
			}
			created, err := c.client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(created.Spec.InitContainers) > 0; got != want {
				t.Errorf("%s: injected: %t, want %t", value, got, want)
			}
		}
	}
}

// warningsReachTheTerminal: what the webhook warns of comes with the API server's own answer.
func (c *cluster) warningsReachTheTerminal(t *testing.T) {
	c.warnings.take()
	if err := c.update("shop", "Service/web", `{metadata: {labels: {traffic.port.80: htp}}}`); err != nil {
		t.Fatal(err)
	}
	want := `service web: label traffic.port.80="htp": expected http, http2, grpc, tcp or direct; in force: the port is blocked`
	if got := c.warnings.take(); !slices.Equal(got, []string{want}) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	err := c.create("shop", strings.Replace(pod("clash", `traffic.envoy.enabled: "true"`, ""), "image: app", "image: app, securityContext: {runAsUser: 1337}", 1))
	if err == nil || !strings.Contains(err.Error(), "container app has runAsUser 1337") {
		t.Errorf("a clash: %v, want a refusal that names it", err)
	}
}

// webhookAway: without it no pod that opted in runs unmanaged, and nobody else is held up.
func (c *cluster) webhookAway(t *testing.T) {
	c.webhook.Close()
	if err := c.create("shop", pod("unmanaged", `traffic.envoy.enabled: "true"`, "")); err == nil {
		t.Error("a pod that opted in was created without its sidecar")
	}
	if err := c.update("shop", "Deployment/web", `{metadata: {labels: {traffic.envoy.enabled: "true"}}}`); err == nil {
		t.Error("a workload's label was taken, and will never act")
	}
	for what, err := range map[string]error{
		"another pod":       c.create("shop", pod("other", "app: web", "")),
		"another label":     c.update("shop", "Deployment/web", `{metadata: {labels: {traffic.endpoint.weight: "5"}}}`),
		"a service's label": c.update("shop", "Service/web", `{metadata: {labels: {traffic.port.80: tcp}}}`),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
