package serve

import (
	"slices"
	"sync"
	"time"
)

// Applied says how an Update ended at the proxies that it concerned.
type Applied struct {
	// Proxies is how many proxies the update concerned: Acknowledged + Rejected + Gone + Late.
	Proxies int
	// Acknowledged counts the proxies that have all of it, Rejected those that refused a resource and keep its last
	// good version, Gone those that disconnected first; they catch up when they are back. Late are those that had not
	// answered after Config.Late, nobody knows what they have.
	Acknowledged, Rejected, Gone, Late int
	// Took is the time from Publish to the last answer.
	Took time.Duration
}

// An outcome is how one proxy ended with one update.
type outcome int

const (
	unconcerned outcome = iota
	acknowledged
	rejected
	gone
)

// A tracker waits for the proxies of one update.
type tracker struct {
	done func(Applied)

	mu     sync.Mutex
	start  time.Time
	limit  *time.Timer // of waiting; nil before Publish returns, and if there is nobody to wait for
	open   int         // proxies that have not finished, and Publish itself
	over   bool
	result Applied
}

func newTracker(done func(Applied)) *tracker {
	return &tracker{done: done, start: time.Now(), open: 1}
}

// watch ends the waiting after a time.
func (t *tracker) watch(limit time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.limit = time.AfterFunc(limit, t.expire)
	}
}

// expire reports, with all that have not finished as late.
func (t *tracker) expire() {
	t.mu.Lock()
	report := t.end(t.open)
	t.mu.Unlock()
	report()
}

// end completes the result, once, and returns what remains to be done without the lock.
func (t *tracker) end(late int) (report func()) {
	if t.over {
		return func() {}
	}
	t.over = true
	if t.limit != nil {
		t.limit.Stop()
	}
	r := &t.result
	r.Late = late
	r.Proxies = r.Acknowledged + r.Rejected + r.Gone + r.Late
	r.Took = time.Since(t.start)
	return func() { t.done(t.result) }
}

func (t *tracker) isOver() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.over
}

func (t *tracker) join() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
}

// finish is called once per join, and once by Publish; the last one reports, unless it is too late.
func (t *tracker) finish(o outcome) {
	t.mu.Lock()
	if t.over {
		t.mu.Unlock()
		return
	}
	switch o {
	case acknowledged:
		t.result.Acknowledged++
	case rejected:
		t.result.Rejected++
	case gone:
		t.result.Gone++
	case unconcerned:
	}
	t.open--
	report := func() {}
	if t.open == 0 {
		report = t.end(0)
	}
	t.mu.Unlock()
	report()
}

// A waiter is one stream's part in the trackers of a change. It finishes when the stream has settled everything up to
// its epoch.
type waiter struct {
	epoch    uint64
	trackers []*tracker
	outcome  outcome
}

// isOver reports whether nobody waits for it any more.
func (w *waiter) isOver() bool {
	return !slices.ContainsFunc(w.trackers, func(t *tracker) bool { return !t.isOver() })
}

func (w *waiter) finish() {
	for _, t := range w.trackers {
		t.finish(w.outcome)
	}
}
