package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// An api is a fake Kubernetes API that keeps the Events it is sent.
type api struct {
	*fake.Clientset
	mu   sync.Mutex
	sent []*eventsv1.Event
	// uid is how the UIDs of objects begin; empty if there are none.
	uid atomic.Value
}

func newAPI() *api {
	a := &api{Clientset: fake.NewClientset()}
	a.uid.Store("uid-")
	a.PrependReactor("create", "events", func(action clienttesting.Action) (bool, runtime.Object, error) {
		e := action.(clienttesting.CreateAction).GetObject().(*eventsv1.Event)
		a.mu.Lock()
		defer a.mu.Unlock()
		a.sent = append(a.sent, e)
		return true, e, nil
	})
	return a
}

// take returns the Events since the last call, each as "kind/name: note".
func (a *api) take() []string {
	synctest.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	var lines []string
	for _, e := range a.sent {
		lines = append(lines, e.Regarding.Kind+"/"+e.Regarding.Name+": "+e.Note)
	}
	a.sent = nil
	slices.Sort(lines)
	return lines
}

func (a *api) reporter(name string) *Reporter {
	return New(Config{
		Client: a, Namespace: "traffic-system", Identity: name, Logger: slog.New(slog.DiscardHandler),
		Reference: func(o mesh.Object) *corev1.ObjectReference {
			r := &corev1.ObjectReference{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
			if prefix := a.uid.Load().(string); prefix != "" {
				r.UID = types.UID(prefix + o.Name)
			}
			return r
		},
	})
}

// replica runs a Reporter and returns what ends it.
func (a *api) replica(t *testing.T, name string) (*Reporter, func()) {
	r := a.reporter(name)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return r, func() { cancel(); running.Wait() }
}

// leader runs a Reporter that writes without an election.
func (a *api) leader(t *testing.T) (*Reporter, func()) {
	r := a.reporter("one")
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.work(ctx) })
	running.Go(func() { r.workRejections(ctx) })
	running.Go(func() { r.lead(ctx) })
	return r, func() { cancel(); r.queue.ShutDown(); r.rejections.ShutDown(); running.Wait() }
}

func web(name string) mesh.Object {
	return mesh.Object{Kind: "Service", Namespace: "default", Name: name}
}

func problem(key, value string) label.Problem {
	return label.Problem{Key: key, Value: value, Reason: "no good", InForce: "nothing"}
}

func check(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestEvents follows a label from wrong to right and back, as the person sees it who set it.
func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x"), problem("traffic.port.81", "y")})
		time.Sleep(time.Second)
		check(t, "each label", a.take(),
			`Service/a: label traffic.port.80="x": no good; in force: nothing`,
			`Service/a: label traffic.port.81="y": no good; in force: nothing`)

		r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x")})
		time.Sleep(10 * time.Minute)
		check(t, "one is fixed, the other is known", a.take())

		r.Report(web("a"), []label.Problem{problem("traffic.port.80", "z")})
		time.Sleep(time.Second)
		check(t, "wrong in another way", a.take(), `Service/a: label traffic.port.80="z": no good; in force: nothing`)

		r.Report(web("a"), nil)
		time.Sleep(24 * time.Hour)
		check(t, "right at last: nothing is renewed", a.take())

		r.Report(web("a"), []label.Problem{problem("traffic.port.80", "z")})
		time.Sleep(time.Second)
		check(t, "the same again is new", a.take(), `Service/a: label traffic.port.80="z": no good; in force: nothing`)

		time.Sleep(renewEvery)
		check(t, "renewed while it lasts", a.take(), `Service/a: label traffic.port.80="z": no good; in force: nothing`)
	})
}

// TestEventFields: kubectl describe and field selectors find an Event by these.
func TestEventFields(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x"), problem("traffic.port.80", strings.Repeat("y", 2000))})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(a.sent) != 1 {
			t.Fatalf("%d events", len(a.sent))
		}
		e := a.sent[0]
		got := []string{e.Namespace, string(e.Regarding.UID), e.Type, e.Reason, e.Action, e.ReportingController}
		check(t, "fields", got, "default", "uid-a", "Warning", "TrafficLabel", "traffic.port.80", "traffic-control")
		if wrong := validation.NameIsDNSSubdomain(e.GenerateName, true); len(wrong) > 0 {
			t.Errorf("the API server refuses the name %q: %v", e.GenerateName, wrong)
		}
		if len(e.Note) != 1024 {
			t.Errorf("a note of %d bytes", len(e.Note))
		}
	})
}

// TestEventOfANamespace: the API server takes Events on what is in no namespace only in "default".
func TestEventOfANamespace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		r.Report(mesh.Object{Kind: "Namespace", Name: "shop"}, []label.Problem{problem("traffic.envoy.enabled", "yes")})
		time.Sleep(time.Second)
		synctest.Wait()
		if len(a.sent) != 1 || a.sent[0].Namespace != "default" || a.sent[0].Regarding.Namespace != "" {
			t.Errorf("sent %+v", a.sent)
		}
	})
}

// TestRefused: while the API server takes no Events, they are kept.
func TestRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		var refuse atomic.Bool
		refuse.Store(true)
		a.PrependReactor("create", "events", func(clienttesting.Action) (bool, runtime.Object, error) {
			return refuse.Load(), nil, errors.New("not now")
		})
		r, stop := a.leader(t)
		defer stop()
		r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x")})
		time.Sleep(time.Second)
		check(t, "refused", a.take())
		refuse.Store(false)
		time.Sleep(quietFor)
		check(t, "taken", a.take(), `Service/a: label traffic.port.80="x": no good; in force: nothing`)
	})
}

// TestFlapping: what is wrong, right and wrong again within seconds is not an Event each time, but is one at once for who tries
// a few values.
func TestFlapping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		time.Sleep(time.Second)
		note := func(value string) string {
			return fmt.Sprintf("Service/a: label traffic.port.80=%q: no good; in force: nothing", value)
		}
		for i := range tries {
			value := fmt.Sprint("x", i)
			r.Report(web("a"), []label.Problem{problem("traffic.port.80", value)})
			time.Sleep(100 * time.Millisecond)
			check(t, "at once", a.take(), note(value))
		}
		for range 20 {
			r.Report(web("a"), nil)
			time.Sleep(time.Second)
			r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x")})
			time.Sleep(time.Second)
		}
		check(t, "none of twenty", a.take())
		time.Sleep(quietFor)
		check(t, "that it stayed", a.take(), note("x"))
	})
}

// TestRate: a bad label in the template of a thousand pods must not flood the API server.
func TestRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		r, stop := a.leader(t)
		defer stop()
		time.Sleep(time.Second)
		for i := range 1000 {
			r.Report(web("a"+string(rune('a'+i%26))+strings.Repeat("x", i/26)), []label.Problem{problem("traffic.port.80", "x")})
		}
		time.Sleep(10 * time.Second)
		if got := len(a.take()); got < eventBurst || got > eventBurst+10*eventsPerSecond+1 {
			t.Errorf("%d events in ten seconds", got)
		}
	})
}

// TestOneReplicaWrites: two know the same problems, and a person reads each once; when one goes, the other takes over.
func TestOneReplicaWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAPI()
		one, stopOne := a.replica(t, "one")
		time.Sleep(time.Second)
		two, stopTwo := a.replica(t, "two")
		defer stopTwo()
		for _, r := range []*Reporter{one, two} {
			r.Report(web("a"), []label.Problem{problem("traffic.port.80", "x")})
		}
		time.Sleep(time.Minute)
		check(t, "both run", a.take(), `Service/a: label traffic.port.80="x": no good; in force: nothing`)
		two.Report(web("b"), []label.Problem{problem("traffic.port.80", "x")})
		stopOne()
		time.Sleep(10 * time.Second)
		check(t, "the other took over", a.take(),
			`Service/a: label traffic.port.80="x": no good; in force: nothing`,
			`Service/b: label traffic.port.80="x": no good; in force: nothing`)
	})
}
