package watch

import (
	"bytes"
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A published update, and what calls its author back.
type published struct {
	envoy.Update
	applied func(Applied)
}

func (p published) String() string {
	var words []string
	for _, r := range p.Set {
		words = append(words, "+"+abbreviate(r.Key))
	}
	for _, key := range p.Remove {
		words = append(words, "-"+abbreviate(key))
	}
	return strings.Join(words, " ")
}

func abbreviate(key envoy.Key) string {
	return key.Type[strings.LastIndexByte(key.Type, '.')+1:] + "/" + key.Name
}

// A cluster is a fake Kubernetes API with a Watcher on it.
type cluster struct {
	t        *testing.T
	objects  *fake.Clientset
	metadata *metadatafake.FakeMetadataClient
	watcher  *Watcher
	gateway  func(*Source, *envoy.Translator) *GatewayConfig // nil for none
	metrics  *prometheus.Registry

	updates  chan published
	problems chan string
	log      *lines
}

func (c *cluster) Publish(u envoy.Update, applied func(Applied)) { c.updates <- published{u, applied} }

func (c *cluster) Report(o mesh.Object, problems []label.Problem) {
	words := []string{o.String()}
	for _, p := range problems {
		words = append(words, p.Key+"="+p.Value)
	}
	c.problems <- strings.Join(words, " ")
}

// lines gives each line of a log to who waits for it.
type lines struct{ all chan string }

func (l *lines) Write(p []byte) (int, error) {
	l.all <- string(bytes.TrimSpace(p))
	return len(p), nil
}

// start returns a Watcher of those objects, which runs until the test ends.
func start(t *testing.T, prepare func(*cluster), objects ...runtime.Object) *cluster {
	scheme := metadatafake.NewTestScheme()
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	var typed, meta []runtime.Object
	for _, o := range objects {
		if _, ok := o.(*metav1.PartialObjectMetadata); ok {
			meta = append(meta, o)
		} else {
			typed = append(typed, o)
		}
	}
	c := &cluster{
		t:        t,
		objects:  fake.NewClientset(typed...),
		metadata: metadatafake.NewSimpleMetadataClient(scheme, meta...),
		metrics:  prometheus.NewRegistry(),
		updates:  make(chan published),
		problems: make(chan string, 100),
		log:      &lines{all: make(chan string, 100)},
	}
	if prepare != nil {
		prepare(c)
	}
	c.watcher = c.newWatcher()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.watcher.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		for {
			select {
			case <-c.updates: // the Watcher may be about to publish
			case <-done:
				return
			}
		}
	})
	return c
}

func (c *cluster) newWatcher() *Watcher {
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogAll})
	if err != nil {
		c.t.Fatal(err)
	}
	source, err := NewSource(c.objects, c.metadata)
	if err != nil {
		c.t.Fatal(err)
	}
	var gateway *GatewayConfig
	if c.gateway != nil {
		gateway = c.gateway(source, translator)
	}
	w, err := New(Config{
		Gateway: gateway,
		Source:  source, Mesh: mesh.Config{KubernetesAPI: true}, Translator: translator,
		Publisher: c, Reporter: c, Logger: slog.New(slog.NewTextHandler(c.log, nil)), Registerer: c.metrics,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	return w
}

// next waits for an update and says that proxies have applied it.
func (c *cluster) next(a Applied) string {
	c.t.Helper()
	select {
	case p := <-c.updates:
		p.applied(a)
		return p.String()
	case <-time.After(10 * time.Second):
		c.t.Fatal("no update")
	}
	return ""
}

func (c *cluster) wantNext(want string) {
	c.t.Helper()
	if got := c.next(Applied{}); got != want {
		c.t.Fatalf("published %q, want %q", got, want)
	}
}

func (c *cluster) wantProblem(want string) {
	c.t.Helper()
	select {
	case got := <-c.problems:
		if got != want {
			c.t.Fatalf("reported %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		c.t.Fatalf("nothing reported, want %q", want)
	}
}

// wantLog waits for a line with all these words.
func (c *cluster) wantLog(words ...string) {
	c.t.Helper()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case line := <-c.log.all:
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
				return
			}
		case <-deadline:
			c.t.Fatalf("no line in the log with %q", words)
		}
	}
}

func ptr[T any](v T) *T { return &v }

func meta(name string, labels ...string) metav1.ObjectMeta {
	m := metav1.ObjectMeta{Namespace: "default", Name: name}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(&m, labels[i], labels[i+1])
	}
	return m
}

func service(name, ip string, labels ...string) *corev1.Service {
	return &corev1.Service{ObjectMeta: meta(name, labels...), Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Port: 80, Protocol: "TCP"}},
	}}
}

func slice(service string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  meta(service+"-abc", discoveryv1.LabelServiceName, service),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Port: ptr(int32(8080))}},
		Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: service + "-1"}},
			{Addresses: []string{"10.0.0.2"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: service + "-2"}},
		},
	}
}

func controlled(m metav1.ObjectMeta, kind, name string) metav1.ObjectMeta {
	m.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: name, Controller: ptr(true)}}
	return m
}

func replicaSet(m metav1.ObjectMeta) *metav1.PartialObjectMetadata {
	return &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "ReplicaSet"}, ObjectMeta: m}
}

func deployment(labels ...string) *appsv1.Deployment {
	return &appsv1.Deployment{ObjectMeta: meta("web", labels...)}
}

// shop is a Service with a pod of a Deployment.
func shop() []runtime.Object {
	return []runtime.Object{
		service("web", "10.96.0.1", "traffic.port.80", "http"),
		slice("web"),
		&corev1.Pod{ObjectMeta: controlled(meta("web-1"), "ReplicaSet", "web-a")},
		replicaSet(controlled(meta("web-a"), "Deployment", "web")),
		deployment("app", "web"),
	}
}

const wholeShop = "+Cluster/80|default|web.outbound +ClusterLoadAssignment/80|default|web.outbound " +
	"+RouteConfiguration/80|default|web.outbound +Listener/10.96.0.1:80"

// labelDeployment does what kubectl label deployment web does.
func (c *cluster) labelDeployment(labels ...string) {
	c.t.Helper()
	if _, err := c.objects.AppsV1().Deployments("default").Update(c.t.Context(), deployment(labels...), metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) updateService(s *corev1.Service) {
	c.t.Helper()
	if _, err := c.objects.CoreV1().Services(s.Namespace).Update(c.t.Context(), s, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// idle returns a Watcher that does not run.
func idle(t *testing.T) (*Watcher, *cluster) {
	c := &cluster{
		t: t, objects: fake.NewClientset(), metadata: metadatafake.NewSimpleMetadataClient(metadatafake.NewTestScheme()),
		metrics: prometheus.NewRegistry(), updates: make(chan published, 10), problems: make(chan string, 10),
		log: &lines{all: make(chan string, 100)},
	}
	return c.newWatcher(), c
}
