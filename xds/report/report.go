package report

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

const (
	// Controller names the author of the Events, and the Lease.
	Controller = "traffic-control"
	// reason is what users filter by: kubectl get events -A --field-selector reason=TrafficLabel
	reason = "TrafficLabel"
	// ingressReason is that of what is wrong with an Ingress or its certificate.
	ingressReason = "TrafficIngress"

	renewEvery = 30 * time.Minute
	// A label that flaps is told no more often than this, but for the first few times: who tries values wants to know of each.
	quietFor, tries = time.Minute, 10
	// One bad label in the template of a big workload is a problem of each of its pods.
	eventsPerSecond, eventBurst = 5, 50
	// maxNote is the API's limit, in bytes.
	maxNote = 1024
)

// Config is what a Reporter needs.
type Config struct {
	Client kubernetes.Interface
	// Namespace is where the Lease is.
	Namespace string
	// Identity is this replica's name in the Lease.
	Identity string
	// Reference names an object as Events do, with its UID, which is empty if the object is gone.
	Reference func(mesh.Object) *corev1.ObjectReference
	// OnLeading, if any, is called when this replica gets or loses the Lease. It must not block.
	OnLeading func(leading bool)
	Logger    *slog.Logger
}

// A Reporter writes Events about the problems of objects, and about what proxies refuse.
type Reporter struct {
	config                    Config
	limiter, rejectionLimiter *rate.Limiter
	// queue has the objects whose problems may have to be told.
	queue workqueue.TypedDelayingInterface[mesh.Object]
	// rejections has those to be told.
	rejections workqueue.TypedDelayingInterface[Rejection]

	mu       sync.Mutex
	leading  bool
	problems map[mesh.Object][]label.Problem
	told     map[mesh.Object]map[string]*telling // by label key
	rejected *cache.LRUExpireCache               // refusers by resource
}

// A telling is the last Event about a label of an object.
type telling struct {
	// note is empty before the first, and once the problem was fixed.
	note string
	pace *rate.Limiter
}

// New returns a Reporter that writes nothing before it runs.
func New(c Config) *Reporter {
	return &Reporter{
		config:     c,
		limiter:    rate.NewLimiter(eventsPerSecond, eventBurst),
		queue:      workqueue.NewTypedDelayingQueue[mesh.Object](),
		rejections: workqueue.NewTypedDelayingQueue[Rejection](),
		problems:   map[mesh.Object][]label.Problem{},
		told:       map[mesh.Object]map[string]*telling{},
		rejected:   cache.NewLRUExpireCache(mostRejected),

		rejectionLimiter: rate.NewLimiter(rejectionsPerSecond, rejectionBurst),
	}
}

// Report has all problems of an object; none if they are fixed or the object is gone. It does not block.
func (r *Reporter) Report(o mesh.Object, problems []label.Problem) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.problems[o] = problems
	if len(problems) == 0 {
		delete(r.problems, o)
	}
	r.queue.Add(o)
}

// Run writes Events until ctx ends: about problems while this replica holds the Lease, about rejections at all times.
func (r *Reporter) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	workers.Go(func() { r.work(ctx) })
	workers.Go(func() { r.workRejections(ctx) })
	defer workers.Wait()
	defer r.rejections.ShutDown()
	defer r.queue.ShutDown()
	return r.elect(ctx)
}

// lead tells all problems, now and at every renewal, until this replica loses the Lease.
func (r *Reporter) lead(ctx context.Context) {
	r.config.Logger.Info("this replica writes Events")
	r.setLeading(true)
	renewal := time.NewTicker(renewEvery)
	defer renewal.Stop()
	for {
		r.tellAll()
		select {
		case <-ctx.Done():
			return
		case <-renewal.C:
		}
	}
}

func (r *Reporter) setLeading(leading bool) {
	if r.config.OnLeading != nil {
		r.config.OnLeading(leading)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.leading = leading
}

func (r *Reporter) tellAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	clear(r.told)
	for o := range r.problems {
		r.queue.Add(o)
	}
}

// work tells what is queued.
func (r *Reporter) work(ctx context.Context) {
	for {
		o, closed := r.queue.Get()
		if closed {
			return
		}
		for _, key := range r.due(o) {
			if r.limiter.Wait(ctx) != nil {
				break // ctx has ended
			}
			if err := r.tell(ctx, o, key); err != nil {
				r.config.Logger.Warn("event not written", "object", o.String(), "key", key, "error", err)
				if !hopeless(err) {
					r.queue.AddAfter(o, quietFor)
				}
			}
		}
		r.queue.Done(o)
	}
}

// hopeless tells whether the API server will not take the Event later either: its namespace is gone or going, or it wants
// another Event.
func hopeless(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.IsInvalid(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// due returns the label keys of an object about which there is something new to tell, and forgets what is fixed.
func (r *Reporter) due(o mesh.Object) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.leading {
		return nil
	}
	notes := notes(r.problems[o])
	for key, last := range r.told[o] {
		if notes[key] == "" {
			last.note = ""
		}
	}
	var keys []string
	for _, key := range slices.Sorted(maps.Keys(notes)) {
		last := r.telling(o, key)
		if last.note == notes[key] {
			continue
		}
		turn := last.pace.Reserve()
		if quiet := turn.Delay(); quiet > 0 {
			turn.Cancel()
			r.queue.AddAfter(o, quiet)
			continue
		}
		keys = append(keys, key)
	}
	return keys
}

// telling is the last Event about a label of an object. r.mu is held.
func (r *Reporter) telling(o mesh.Object, key string) *telling {
	if r.told[o] == nil {
		r.told[o] = map[string]*telling{}
	}
	if r.told[o][key] == nil {
		r.told[o][key] = &telling{pace: rate.NewLimiter(rate.Every(quietFor), tries)}
	}
	return r.told[o][key]
}

// tell writes the Event about a label, as the problem is by now.
//
// It does not use client-go's recorder: that takes Events of one object, reason and action for one, whatever their notes
// say, and renews them when the problem is long fixed.
func (r *Reporter) tell(ctx context.Context, o mesh.Object, key string) error {
	note := r.note(o, key)
	if note == "" {
		return nil
	}
	err := r.create(ctx, o, eventsv1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: o.Name + "-"}, Reason: reasonOf(o), Action: key, Note: note,
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.telling(o, key).note = note
	return nil
}

func reasonOf(o mesh.Object) string {
	if o.Kind == "Ingress" || o.Kind == "Secret" {
		return ingressReason
	}
	return reason
}

// create writes an Event on an object, of now. The event has its name, reason, action and note.
func (r *Reporter) create(ctx context.Context, o mesh.Object, e eventsv1.Event) error {
	// The Events of a Namespace are in "default": the API wants that of objects that are in no namespace.
	e.Namespace = cmp.Or(o.Namespace, metav1.NamespaceDefault)
	e.EventTime = metav1.NewMicroTime(time.Now())
	e.ReportingController, e.ReportingInstance = Controller, r.config.Identity
	e.Regarding, e.Type = *r.config.Reference(o), corev1.EventTypeWarning
	if _, err := r.config.Client.EventsV1().Events(e.Namespace).Create(ctx, &e, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("event on %s: %w", o, err)
	}
	return nil
}

// note is what there is to tell about a label now.
func (r *Reporter) note(o mesh.Object, key string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return notes(r.problems[o])[key]
}

// notes returns what is to be told about each label.
func notes(problems []label.Problem) map[string]string {
	notes := map[string]string{}
	for _, p := range problems {
		if notes[p.Key] != "" {
			notes[p.Key] += "\n"
		}
		notes[p.Key] += p.String()
	}
	for key, note := range notes {
		notes[key] = bounded(note)
	}
	return notes
}

// bounded cuts a note to what the API takes, and not through a letter.
func bounded(note string) string {
	return strings.ToValidUTF8(note[:min(len(note), maxNote)], "")
}
