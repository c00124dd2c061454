package watch

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

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
		`proxies=3 acknowledged=2 rejected=0 gone=1 late=0 took=`)

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

	c.updateService(service("db", "10.96.0.2", "traffic.port.80", "htpp", "traffic.rate.limit", "fast"))
	c.wantProblem("Service default/db traffic.port.80=htpp traffic.rate.limit=fast")
	for line := range c.log.all {
		if strings.Contains(line, "key=traffic.port.80 value=htpp") {
			t.Error("what was told before is told again")
		}
		if strings.Contains(line, "key=traffic.rate.limit value=fast") {
			break
		}
	}
	c.updateService(service("db", "10.96.0.2", "traffic.port.80", "htpp"))
	c.wantProblem("Service default/db traffic.port.80=htpp")

	c.labelDeployment("traffic.endpoint.weight", "ten")
	c.wantProblem("Deployment default/web traffic.endpoint.weight=ten")
	c.wantGauge(2)

	c.updateService(service("db", "10.96.0.2", "traffic.port.80", "tcp"))
	c.next(Applied{})
	c.wantProblem("Service default/db")
	c.wantLog("no more problems", "Service default/db")
	c.wantGauge(1)
}

// TestProblemsOfTheWebhooksKinds: on a Namespace, Job or CronJob only the webhook acts, and only on what is created from then
// on. Who labelled one that is there hears of a slip all the same, and nothing that is open changes.
func TestProblemsOfTheWebhooksKinds(t *testing.T) {
	labelled := func(apiVersion, kind, namespace, key, value string) *metav1.PartialObjectMetadata {
		return &metav1.PartialObjectMetadata{
			TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion, Kind: kind},
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "web", UID: types.UID("of-" + kind), Labels: map[string]string{key: value}},
		}
	}
	c := start(t, nil, append(shop(),
		labelled("batch/v1", "CronJob", "default", "traffic.envoy.enable", "true"),
		labelled("batch/v1", "Job", "default", "traffic.endpoint.weight", "10"),
		labelled("v1", "Namespace", "", "traffic.envoy.enabled", "yes"),
		labelled("batch/v1", "Job", "other", "traffic.envoy.enabled", "true"),
	)...)
	c.wantNext(wholeShop)
	c.wantProblem("CronJob default/web traffic.envoy.enable=true")
	c.wantProblem("Job default/web traffic.endpoint.weight=10")
	c.wantProblem("Namespace web traffic.envoy.enabled=yes")
	c.wantLog("level=WARN", `object="Namespace web" key=traffic.envoy.enabled value=yes`, "expected true or false")
	c.wantGauge(3)
	for o, apiVersion := range map[mesh.Object]string{
		{Kind: "CronJob", Namespace: "default", Name: "web"}: "batch/v1",
		{Kind: "Job", Namespace: "default", Name: "web"}:     "batch/v1",
		{Kind: "Namespace", Name: "web"}:                     "v1",
	} {
		if got := c.watcher.source.Reference(o); got.APIVersion != apiVersion || string(got.UID) != "of-"+o.Kind {
			t.Errorf("the Event on %s is about %+v", o, got)
		}
	}
}

func (c *cluster) wantGauge(want int) {
	c.t.Helper()
	text := fmt.Sprintf("# HELP traffic_control_label_problems Labels, and annotations and fields of Ingresses, that do not do what they say: not valid, unknown or without effect.\n"+
		"# TYPE traffic_control_label_problems gauge\ntraffic_control_label_problems %d\n", want)
	if err := testutil.GatherAndCompare(c.metrics, strings.NewReader(text), "traffic_control_label_problems"); err != nil {
		c.t.Error(err)
	}
}

// TestBatch: what is queued goes out together, so that a storm of changes costs no more than its last state.
func TestBatch(t *testing.T) {
	w, c := idle(t)
	web := mesh.Object{Kind: "Service", Namespace: "default", Name: "web"}
	w.source.queue.add(web, func(m model) { m.SetService(service("web", "10.96.0.1", "traffic.port.80", "http")) })
	w.source.queue.add(mesh.Object{Kind: mesh.EndpointSlice, Namespace: "default", Name: "web-abc"}, func(m model) { m.SetEndpointSlice(slice("web")) })
	w.source.queue.add(web, func(m model) { m.SetService(service("web", "10.96.0.1", "traffic.port.80", "tcp")) })
	<-w.source.queue.some
	w.next()
	c.wantNext("+Cluster/80|default|web.outbound +ClusterLoadAssignment/80|default|web.outbound +Listener/10.96.0.1:80")
	select {
	case <-w.source.queue.some:
		t.Error("there is more in the queue")
	default:
	}
}

// TestQueueHoldsObjects: while one kind cannot be listed, for hours in the worst case, the others go on changing. What waits
// must not grow with time.
func TestQueueHoldsObjects(t *testing.T) {
	q := newQueue()
	var told []string
	for i := range 1000 {
		for _, name := range []string{"web", "db"} {
			q.add(mesh.Object{Kind: "Pod", Namespace: "default", Name: name}, func(model) { told = append(told, fmt.Sprint(name, i)) })
		}
	}
	for range 2 {
		events, _ := q.take()
		for _, tell := range events {
			tell(model{})
		}
	}
	if diff := cmp.Diff([]string{"web999", "db999"}, told); diff != "" {
		t.Errorf("the last of each object, in the order in which they came (-want +got):\n%s", diff)
	}
}

// TestUntranslated: a port that cannot be translated keeps what it had, its owner is told, and others go on.
func TestUntranslated(t *testing.T) {
	w, c := idle(t)
	bad := mesh.Object{Kind: "Service", Namespace: "default", Name: "bad"}
	good := mesh.Object{Kind: "Service", Namespace: "default", Name: "good"}
	port := func(o mesh.Object, protocol label.Protocol) mesh.PortChange {
		return mesh.PortChange{Owner: o, Ports: []mesh.Port{{Owner: o, Number: 80, Protocol: protocol}}}
	}
	update := func(changes ...mesh.PortChange) string {
		return published{Update: w.translate(change{Changes: mesh.Changes{Ports: changes}}).sidecars}.String()
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
