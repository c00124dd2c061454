package report

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validation"
	"k8s.io/apimachinery/pkg/runtime"
	clienttesting "k8s.io/client-go/testing"
)

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
		reject := func(r *Reporter, proxy, version, message string) {
			r.Reject(Rejection{Owner: web("a"), Resource: "Listener 10.96.0.1:80", Version: version, Proxy: proxy, Message: message})
		}
		for range 1000 {
			reject(two, "x.default", "v1", "no such filter")
		}
		time.Sleep(time.Minute)
		check(t, "the replica without the Lease", a.take(),
			"Service/a: Envoy of x.default refused version v1 of Listener 10.96.0.1:80 and goes on with what it had: no such filter")
		reject(one, "y.default", "v1", "no such filter")
		time.Sleep(time.Minute)
		check(t, "told already, by the other replica", a.take())

		one.Reject(Rejection{Resource: "Cluster traffic-tracing", Version: "v1", Proxy: "x.default", Message: "no such host"})
		time.Sleep(time.Minute)
		check(t, "what comes from no object", a.take())

		reject(one, "y.default", "v2", strings.Repeat("é", 2000))
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
