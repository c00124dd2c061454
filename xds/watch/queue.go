package watch

import (
	"sync"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// An event tells the mesh of an object.
type event func(*mesh.Mesh)

// A queue takes events from many goroutines and gives them to one, all that there are at a time. It has no bound: its
// events are no more than the objects that changed.
type queue struct {
	mu     sync.Mutex
	events []event
	since  time.Time // when the first of events came
	// some has a value while there are events.
	some chan struct{}
}

func newQueue() *queue { return &queue{some: make(chan struct{}, 1)} }

func (q *queue) add(e event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		q.since = time.Now()
	}
	q.events = append(q.events, e)
	select {
	case q.some <- struct{}{}:
	default:
	}
}

// take returns all events, and when the first of them came.
func (q *queue) take() ([]event, time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	events := q.events
	q.events = nil
	return events, q.since
}
