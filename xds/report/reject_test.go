package report

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

func proxyOf(namespace, pod string) mesh.Object {
	return mesh.Object{Kind: "Pod", Namespace: namespace, Name: pod}
}

// TestRejection: a Service whose configuration Envoys refuse says so where its owner looks, once, whichever replica they are
// at and whoever holds the Lease, and again for the next version.
func TestRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		names := map[string]bool{}
		a.PrependReactor("create", "events", func(action clienttesting.Action) (bool, runtime.Object, error) {
			name := action.(clienttesting.CreateAction).GetObject().(*eventsv1.Event).Name
			if names[name] {
				return true, nil, apierrors.NewAlreadyExists(eventsv1.Resource("events"), name)
			}
			names[name] = true
			return false, nil, nil
		})
		one, stopOne := a.replica(t, "one")
		defer stopOne()
		time.Sleep(time.Second)
		two, stopTwo := a.replica(t, "two")
		defer stopTwo()
		reject := func(r *Reporter, proxy, version string) {
			r.Reject(Rejection{Owner: web("a"), Resource: "Listener 10.96.0.1:80", Version: version, Proxy: proxyOf("default", proxy)})
		}
		for range 1000 {
			reject(two, "x", "v1")
		}
		time.Sleep(time.Minute)
		check(t, "the replica without the Lease", a.take(),
			"Service/a: Envoy of Pod default/x refused version v1 of Listener 10.96.0.1:80 and goes on with what it had: see the log of traffic-control")
		reject(one, "y", "v1")
		time.Sleep(time.Minute)
		check(t, "told already, by the other replica", a.take())

		one.Reject(Rejection{Resource: "Cluster traffic-tracing", Version: "v1", Proxy: proxyOf("default", "x")})
		time.Sleep(time.Minute)
		check(t, "what comes from no object", a.take())

		reject(one, strings.Repeat("é", 2000), "v2")
		time.Sleep(time.Second)
		synctest.Wait()
		if len(a.sent) != 1 {
			t.Fatalf("%d events of another version", len(a.sent))
		}
		e := a.sent[0]
		if e.Reason != "TrafficRejected" || e.Action == "" || e.Regarding.UID != "uid-a" || e.Type != "Warning" {
			t.Errorf("event %+v", e)
		}
		if len(e.Note) > 1024 || !utf8.ValidString(e.Note) {
			t.Errorf("the API server refuses a note of %d bytes: %q", len(e.Note), e.Note)
		}
		if wrong := validation.NameIsDNSSubdomain(e.Name, false); len(wrong) > 0 {
			t.Errorf("the API server refuses the name %q: %v", e.Name, wrong)
		}
	})
}

// TestFalseRejection: a pod elsewhere that refuses what is good does not keep the owner from hearing of a true refusal, and
// a version that every namespace refuses is few Events.
func TestFalseRejection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		reject := func(namespace string) {
			r.Reject(Rejection{Owner: web("ledger"), Resource: "Listener 10.96.0.1:80", Version: "v1", Proxy: proxyOf(namespace, "x")})
		}
		reject("dev")
		for i := range 100 {
			reject(fmt.Sprint("other-", i))
		}
		reject("default") // the Service's own
		time.Sleep(time.Minute)
		sent := a.take()
		if len(sent) != mostRefusers+1 {
			t.Errorf("%d events, want few: %q", len(sent), sent)
		}
		for _, namespace := range []string{"dev", "default"} {
			if !slices.ContainsFunc(sent, func(note string) bool { return strings.Contains(note, "Envoy of Pod "+namespace+"/x refused") }) {
				t.Errorf("nothing of the proxy in %s: %q", namespace, sent)
			}
		}
	})
}

// TestManyRejections: whoever refuses everything delays no Event about a label.
func TestManyRejections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		for i := range 10_000 {
			r.Reject(Rejection{Owner: web("a"), Resource: fmt.Sprint("Listener ", i), Version: "v1", Proxy: proxyOf("dev", "x")})
		}
		time.Sleep(10 * time.Second)
		if got := len(a.take()); got < 20 || got > 40 {
			t.Errorf("%d events about rejections in ten seconds", got)
		}
		r.Report(web("b"), []label.Problem{problem("traffic.port.80", "x")})
		time.Sleep(100 * time.Millisecond)
		if sent := a.take(); !slices.Contains(sent, `Service/b: label traffic.port.80="x": no good; in force: nothing`) {
			t.Errorf("the label waits; sent: %q", sent)
		}
	})
}

// TestRejectionsAreForgotten: Services come and go for months, and so does what was told about them. A new one of an old
// name is told anew, and so is one that is refused after its Event has expired.
func TestRejectionsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		reject := func(name string) {
			r.Reject(Rejection{Owner: web(name), Resource: "Listener 10.96.0.1:80", Version: "v1", Proxy: proxyOf("dev", "x")})
		}
		told := func(what string, want int) {
			t.Helper()
			time.Sleep(time.Second)
			if sent := a.take(); len(sent) != want {
				t.Errorf("%s: %d events, want %d: %q", what, len(sent), want, sent)
			}
		}
		reject("a")
		told("refused", 1)
		time.Sleep(50 * time.Minute)
		reject("a")
		told("told already", 0)
		time.Sleep(10 * time.Minute)
		reject("a")
		told("the Event has expired", 1)
		a.uid.Store("another-")
		reject("a")
		told("another Service of that name", 1)
		a.uid.Store("")
		reject("b")
		told("it is gone", 0)
		a.uid.Store("uid-")
		for i := range 3 * mostRejected {
			reject(fmt.Sprint("web-", i))
		}
		if got := len(r.rejected.Keys()); got > mostRejected {
			t.Errorf("%d are remembered, want at most %d", got, mostRejected)
		}
	})
}

// TestHopelessEvents: an Event that the API server will never take is not tried, and logged, every minute for ever.
func TestHopelessEvents(t *testing.T) {
	events := eventsv1.Resource("events")
	terminating := apierrors.NewForbidden(events, "x", errors.New("the namespace is being terminated"))
	terminating.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
	for name, test := range map[string]struct {
		err      error
		attempts int
	}{
		"the namespace is gone":             {apierrors.NewNotFound(corev1.Resource("namespaces"), "default"), 2},
		"the namespace is being terminated": {terminating, 2},
		"the Event is invalid":              {apierrors.NewInvalid(eventsv1.SchemeGroupVersion.WithKind("Event").GroupKind(), "x", nil), 2},
		"a right is missing":                {apierrors.NewForbidden(events, "x", errors.New("no such right")), 12},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := newAPI()
				var attempts atomic.Int64
				a.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
					attempts.Add(1)
					return true, nil, test.err
				})
				r, stop := a.leader(t)
				defer stop()
				r.Reject(Rejection{Owner: web("a"), Resource: "Listener 10.96.0.1:80", Version: "v1", Proxy: proxyOf("dev", "x")})
				r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x")})
				time.Sleep(5*time.Minute + 30*time.Second)
				if got := int(attempts.Load()); got != test.attempts {
					t.Errorf("%d attempts to write two Events, want %d", got, test.attempts)
				}
			})
		})
	}
}
