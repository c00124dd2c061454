package watch

import (
	"sync"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// An event tells the model of an object.
type event func(model)

// A queue takes events from many goroutines and gives them to one, all that there are at a time. It has no bound, and
// needs none: of each object it has the last event alone, so it holds no more than the objects that changed, however
// long nobody takes them.
type queue struct {
	mu     sync.Mutex
	events []event // in the order in which their objects first came
	places map[mesh.Object]int
	since  time.Time // when the first of events came
	// some has a value while there are events.
	some chan struct{}
}

func newQueue() *queue {
	return &queue{places: map[mesh.Object]int{}, some: make(chan struct{}, 1)}
}

func (q *queue) add(o mesh.Object, e event) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.events) == 0 {
		q.since = time.Now()
	}
	if place, known := q.places[o]; known {
		q.events[place] = e
		return
	}
	q.places[o] = len(q.events)
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
	q.events, q.places = nil, map[mesh.Object]int{}
	return events, q.since
}
