package watch

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	metadatafake "k8s.io/client-go/metadata/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/cache"

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
	w, err := New(Config{
		Source: source, Mesh: mesh.Config{KubernetesAPI: true}, Translator: translator,
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

// TestFirstUpdateHasAll: a proxy that connects early must not be told that half of the cluster is closed.
func TestFirstUpdateHasAll(t *testing.T) {
	release, listed := make(chan struct{}), make(chan string, 10)
	c := start(t, func(c *cluster) {
		c.metadata.PrependReactor("list", "replicasets", func(clienttesting.Action) (bool, runtime.Object, error) {
			<-release
			return false, nil, nil
		})
		c.objects.PrependWatchReactor("*", func(a clienttesting.Action) (bool, apiwatch.Interface, error) {
			listed <- a.GetResource().Resource
			return false, nil, nil
		})
	}, shop()...)
	for range 6 { // all other kinds
		<-listed
	}
	select {
	case p := <-c.updates:
		t.Fatalf("published %q before the ReplicaSets were known", p)
	default:
	}
	if c.watcher.Ready() {
		t.Error("ready before anything was published")
	}
	close(release)
	c.wantNext(wholeShop)
	c.wantLog("published all there is", "services=1", "resources=4")
	if !c.watcher.Ready() {
		t.Error("not ready after the first update")
	}
}

// TestEmptyCluster: proxies of a cluster in which nothing is open wait for an answer too.
func TestEmptyCluster(t *testing.T) {
	start(t, nil).wantNext("")
}

// TestChanges follows a user's commands to updates, and to the one line of the log that each is.
func TestChanges(t *testing.T) {
	c := start(t, nil, shop()...)
	c.wantNext(wholeShop)

	c.labelDeployment("traffic.endpoint.weight", "10")
	if got := c.next(Applied{Proxies: 3, Acknowledged: 2, Gone: 1}); got != "+ClusterLoadAssignment/80|default|web.outbound" {
		t.Errorf("a weight published %q", got)
	}
	c.wantLog(`msg="label changed" object="Deployment default/web" key=traffic.endpoint.weight old="" new=10 set=1 removed=0 ` +
		`proxies=3 acknowledged=2 rejected=0 gone=1 took=`)

	c.labelDeployment("traffic.endpoint.weight", "10", "team", "a") // no change to us
	c.updateService(service("web", "10.96.0.1"))
	c.wantNext("-Cluster/80|default|web.outbound -ClusterLoadAssignment/80|default|web.outbound " +
		"-Listener/10.96.0.1:80 -RouteConfiguration/80|default|web.outbound")
	c.wantLog(`key=traffic.port.80 old=http new=""`, "removed=4")

	c.updateService(service("web", "10.96.0.1", "traffic.port.80", "http"))
	c.wantNext(wholeShop)
	if err := c.objects.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if got := c.next(Applied{}); !strings.HasPrefix(got, "-Cluster/") {
		t.Errorf("deleting the Service published %q", got)
	}
}

// TestChangeWithoutEffect: somebody who sets a label that changes nothing still finds the line.
func TestChangeWithoutEffect(t *testing.T) {
	c := start(t, nil, shop()...)
	c.wantNext(wholeShop)
	c.labelDeployment("traffic.endpoint.weight", "100")
	c.wantLog("key=traffic.endpoint.weight", "new=100", "set=0", "proxies=0")
}

// TestProblems: a wrong value is in the log, in the metrics, and goes to who tells the object's owner; so does its end.
func TestProblems(t *testing.T) {
	c := start(t, nil, append(shop(), service("db", "10.96.0.2", "traffic.port.80", "htpp"))...)
	c.wantNext(wholeShop)
	c.wantProblem("Service default/db traffic.port.80=htpp")
	c.wantLog("level=WARN", `object="Service default/db" key=traffic.port.80 value=htpp`, "expected http, http2, grpc, tcp or direct", "the port is blocked")

	c.labelDeployment("traffic.endpoint.weight", "ten")
	c.wantProblem("Deployment default/web traffic.endpoint.weight=ten")
	c.wantGauge(2)

	c.updateService(service("db", "10.96.0.2", "traffic.port.80", "tcp"))
	c.next(Applied{})
	c.wantProblem("Service default/db")
	c.wantLog("no more label problems", "Service default/db")
	c.wantGauge(1)
}

func (c *cluster) wantGauge(want int) {
	c.t.Helper()
	text := fmt.Sprintf("# HELP traffic_control_label_problems Labels that do not do what they say: not valid, unknown or without effect.\n"+
		"# TYPE traffic_control_label_problems gauge\ntraffic_control_label_problems %d\n", want)
	if err := testutil.GatherAndCompare(c.metrics, strings.NewReader(text), "traffic_control_label_problems"); err != nil {
		c.t.Error(err)
	}
}

// TestBatch: what is queued goes out together, so that a storm of changes costs no more than its last state.
func TestBatch(t *testing.T) {
	w, c := idle(t)
	w.source.queue.add(func(m *mesh.Mesh) { m.SetService(service("web", "10.96.0.1", "traffic.port.80", "http")) })
	w.source.queue.add(func(m *mesh.Mesh) { m.SetEndpointSlice(slice("web")) })
	w.source.queue.add(func(m *mesh.Mesh) { m.SetService(service("web", "10.96.0.1", "traffic.port.80", "tcp")) })
	<-w.source.queue.some
	w.next()
	c.wantNext("+Cluster/80|default|web.outbound +ClusterLoadAssignment/80|default|web.outbound +Listener/10.96.0.1:80")
	select {
	case <-w.source.queue.some:
		t.Error("there is more in the queue")
	default:
	}
}

// TestUntranslated: a port that cannot be translated keeps what it had, its owner is told, and others go on.
func TestUntranslated(t *testing.T) {
	w, c := idle(t)
	bad := mesh.Object{Kind: "Service", Namespace: "default", Name: "bad"}
	good := mesh.Object{Kind: "Service", Namespace: "default", Name: "good"}
	port := func(o mesh.Object, protocol label.Protocol) mesh.ServiceChange {
		return mesh.ServiceChange{Service: o, Ports: []mesh.Port{{Service: o, Number: 80, Protocol: protocol}}}
	}
	update := func(changes ...mesh.ServiceChange) string {
		return published{Update: w.translate(mesh.Changes{Services: changes})}.String()
	}
	if got := update(port(bad, label.Direct)); got != "+Cluster/80|default|bad.outbound" {
		t.Fatalf("published %q", got)
	}
	if got := update(port(bad, 99), port(good, label.Direct)); got != "+Cluster/80|default|good.outbound" {
		t.Errorf("published %q", got)
	}
	c.wantProblem("Service default/bad traffic.port.80=")
	if got := update(port(bad, label.Direct)); got != "" {
		t.Errorf("published %q, though it was there all the time", got)
	}
	c.wantProblem("Service default/bad")
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

// TestReference: kubectl describe shows an Event only if it has the object's UID.
func TestReference(t *testing.T) {
	web := deployment()
	web.UID = "11-22"
	c := start(t, nil, web)
	c.wantNext("")
	want := &corev1.ObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Namespace: "default", Name: "web", UID: "11-22"}
	if diff := cmp.Diff(want, c.watcher.source.Reference(mesh.Object{Kind: "Deployment", Namespace: "default", Name: "web"})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	gone := c.watcher.source.Reference(mesh.Object{Kind: "Pod", Namespace: "default", Name: "gone"})
	if gone.APIVersion != "v1" || gone.UID != "" {
		t.Errorf("of what is gone: %+v", gone)
	}
}

// TestStrip: an informer must not hold what the mesh does not read, and must keep what it reads.
func TestStrip(t *testing.T) {
	full := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Labels: map[string]string{"a": "b"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}},
			Annotations: map[string]string{label.ProxyAnnotation: "v1", "big": "x"},
		},
		Spec:   corev1.PodSpec{HostNetwork: true, OS: &corev1.PodOS{Name: "linux"}, Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: "Running", PodIP: "10.0.0.1"},
	}
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{label.ProxyAnnotation: "v1"},
		},
		Spec:   corev1.PodSpec{HostNetwork: true, OS: &corev1.PodOS{Name: "linux"}},
		Status: corev1.PodStatus{Phase: "Running"},
	}
	template := corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}, Annotations: map[string]string{"big": "x"}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
	}
	stripped := corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"a": "b"}}}
	for _, test := range []struct{ full, want any }{
		{full, want},
		{&appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: template}, Status: appsv1.DeploymentStatus{Replicas: 1}}, &appsv1.Deployment{Spec: appsv1.DeploymentSpec{Template: stripped}}},
		{&appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: template}, Status: appsv1.StatefulSetStatus{Replicas: 1}}, &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Template: stripped}}},
		{&appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: template}, Status: appsv1.DaemonSetStatus{NumberReady: 1}}, &appsv1.DaemonSet{Spec: appsv1.DaemonSetSpec{Template: stripped}}},
		{cache.DeletedFinalStateUnknown{Key: "default/gone"}, cache.DeletedFinalStateUnknown{Key: "default/gone"}},
	} {
		got, err := strip(test.full)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%T (-want +got):\n%s", test.want, diff)
		}
	}
}
