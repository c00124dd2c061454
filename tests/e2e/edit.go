package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	// editEvery is the least time from one edit to the next, askEvery from one question to an Envoy to the next.
	editEvery, askEvery = 200 * time.Millisecond, 50 * time.Millisecond
	// editLimit is for the API server to take an edit, and then for it to be everywhere: parts are away for a minute.
	editLimit = 3 * time.Minute
)

// edits are changes of a Service's label, one after the other, each of which every Envoy has to act on: none may be missed,
// whatever is taken away meanwhile. What they change shows in each answer, as the name of a cookie.
type edits struct {
	client             kubernetes.Interface
	namespace, service string
	envoys             []envoy
	// before is how many streams each Envoy had opened.
	before []int
	// last is closed when one more edit is to be made, done when that is everywhere.
	last, done chan struct{}

	// took is what the edits took, from the API server's answer to the last Envoy.
	took  []time.Duration
	wrong error
	mu    sync.Mutex
	// failed are requests that were not answered with 200.
	failed []error
}

// edit is the script command "edit SERVICE ENVOYS": from now on a label of the Service changes again and again. It waits until so
// many Envoys are ready that the Service concerns.
func (l local) edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: edit service envoys")
	}
	want, err := strconv.Atoi(args[1])
	ts.Check(err)
	e, err := l.newEdits(context.Background(), ts.Getenv("NAMESPACE"), args[0], want)
	ts.Check(err)
	ctx, cancel := context.WithCancel(context.Background())
	ts.Defer(cancel)
	l.edits.Store(e.namespace, e)
	go e.run(ctx)
}

// edited is the script command "edited": it ends what "edit" began, and fails if an Envoy missed an edit or did not answer a
// request. It prints how many edits there were, how long they took, and how many streams Envoys opened meanwhile,
// together, each at least, and each at most. One may reach its age, half an hour, just then.
func (l local) edited(ts *testscript.TestScript, neg bool, args []string) {
	begun, ok := l.edits.LoadAndDelete(ts.Getenv("NAMESPACE"))
	if neg || len(args) != 0 || !ok {
		ts.Fatalf("usage: edited, after edit service")
	}
	e := begun.(*edits)
	close(e.last)
	<-e.done
	if len(e.failed) > 0 {
		ts.Fatalf("%d requests failed, the first ones: %v", len(e.failed), errors.Join(e.failed[:min(5, len(e.failed))]...))
	}
	ts.Check(e.wrong)
	opened, err := e.opened(context.Background())
	ts.Check(err)
	slices.Sort(e.took)
	sum := 0
	for _, n := range opened {
		sum += n
	}
	_, err = fmt.Fprintf(ts.Stdout(), "%d edits\n%d median-ms\n%d slowest-ms\n%d streams\n%d streams-at-least\n%d streams-at-most\n",
		len(e.took), e.took[len(e.took)/2].Milliseconds(), slices.Max(e.took).Milliseconds(),
		sum, slices.Min(opened), slices.Max(opened))
	ts.Check(err)
}

func (l local) newEdits(ctx context.Context, namespace, service string, want int) (*edits, error) {
	client, err := l.cluster.Client()
	if err != nil {
		return nil, err
	}
	e := &edits{client: client, namespace: namespace, service: service, last: make(chan struct{}), done: make(chan struct{})}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(askEvery) {
		if e.envoys, err = l.envoys(ctx, namespace, service); err != nil {
			return nil, err
		}
		if len(e.envoys) == want {
			break
		}
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("%d Envoys are ready, and not %d", len(e.envoys), want)
		}
	}
	if err := e.label(ctx, "traffic.lb.policy", "RING_HASH", "traffic.hash.cookie.name", "edit-0", "traffic.hash.cookie.ttl", "0"); err != nil {
		return nil, err
	}
	if err := e.answered(ctx); err != nil {
		return nil, err
	}
	e.before = make([]int, len(e.envoys))
	e.before, err = e.opened(ctx)
	return e, err
}

// answered waits until the Service answers through each Envoy.
func (e *edits) answered(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for _, proxy := range e.envoys {
		for {
			_, err := proxy.ask(ctx)
			if err == nil {
				break
			}
			if ctx.Err() != nil {
				return fmt.Errorf("the Envoy of %s: %w", proxy.pod.Name, err)
			}
			time.Sleep(askEvery)
		}
	}
	return nil
}

// opened is how many streams each Envoy has opened since the begin.
func (e *edits) opened(ctx context.Context) (since []int, err error) {
	for i, proxy := range e.envoys {
		n, err := proxy.streams(ctx)
		if err != nil {
			return nil, err
		}
		since = append(since, n-e.before[i])
	}
	return since, nil
}

// run makes edits until none is to be made after the next one, which is begun and reaches every Envoy after all that happened.
func (e *edits) run(ctx context.Context) {
	defer close(e.done)
	turn := time.NewTicker(editEvery)
	defer turn.Stop()
	over := false
	for n := 1; e.wrong == nil; n++ {
		if e.wrong = e.once(ctx, fmt.Sprintf("edit-%d", n)); over {
			return
		}
		select {
		case <-e.last:
			over = true
		case <-turn.C:
		}
	}
}

// once makes one edit, and waits until every Envoy acts on it.
func (e *edits) once(ctx context.Context, value string) error {
	if err := e.label(ctx, "traffic.hash.cookie.name", value); err != nil {
		return fmt.Errorf("%s was never made: %w", value, err)
	}
	begin := time.Now()
	ctx, cancel := context.WithTimeout(ctx, editLimit)
	defer cancel()
	var group errgroup.Group
	for _, proxy := range e.envoys {
		group.Go(func() error { return e.reach(ctx, proxy, value) })
	}
	err := group.Wait()
	e.took = append(e.took, time.Since(begin))
	return err
}

// reach asks an Envoy until its answer has the cookie.
func (e *edits) reach(ctx context.Context, proxy envoy, value string) error {
	turn := time.NewTicker(askEvery)
	defer turn.Stop()
	var last []string
	for {
		cookies, err := proxy.ask(ctx)
		if slices.Contains(cookies, value) {
			return nil
		}
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s did not reach the Envoy of %s, which has %q: %w", value, proxy.pod.Name, last, ctx.Err())
		case err != nil:
			e.fail(fmt.Errorf("%s: %s: %w", time.Now().Format(time.TimeOnly), proxy.pod.Name, err))
		default:
			last = cookies
		}
		select {
		case <-ctx.Done():
		case <-turn.C:
		}
	}
}

func (e *edits) fail(err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failed = append(e.failed, err)
}

// label sets labels of the Service, keys and values in turn, as soon as the API server takes them.
func (e *edits) label(ctx context.Context, labels ...string) error {
	var patch string
	for pair := range slices.Chunk(labels, 2) {
		patch += fmt.Sprintf(",%q:%q", pair[0], pair[1])
	}
	patch = `{"metadata":{"labels":{` + patch[1:] + `}}}`
	for deadline := time.Now().Add(editLimit); ; {
		once, cancel := context.WithTimeout(ctx, 5*time.Second)
		_, err := e.client.CoreV1().Services(e.namespace).Patch(once, e.service, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
		cancel()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(editEvery):
		}
	}
}
