package serve

import (
	"sync"
	"time"
)

// Applied says how an Update ended at the proxies that it concerned.
type Applied struct {
	// Proxies is how many proxies the update concerned: Acknowledged + Rejected + Gone.
	Proxies int
	// Acknowledged counts the proxies that have all of it, Rejected those that refused a resource and keep its last
	// good version, Gone those that disconnected first; they catch up when they are back.
	Acknowledged, Rejected, Gone int
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
	open   int // proxies that have not finished, and Publish itself
	result Applied
}

func newTracker(done func(Applied)) *tracker {
	return &tracker{done: done, start: time.Now(), open: 1}
}

func (t *tracker) join() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.open++
}

// finish is called once per join, and once by Publish; the last one reports.
func (t *tracker) finish(o outcome) {
	t.mu.Lock()
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
	last := t.open == 0
	if last {
		t.result.Proxies = t.result.Acknowledged + t.result.Rejected + t.result.Gone
		t.result.Took = time.Since(t.start)
	}
	t.mu.Unlock()
	if last {
		t.done(t.result)
	}
}

// A waiter is one stream's part in the trackers of a change. It finishes when the stream has settled everything up to
// its epoch.
type waiter struct {
	epoch    uint64
	trackers []*tracker
	outcome  outcome
}

func (w *waiter) finish() {
	for _, t := range w.trackers {
		t.finish(w.outcome)
	}
}
