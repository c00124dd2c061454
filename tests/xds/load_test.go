package xds

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
)

// A load is requests over new connections, one after the other, by several clients.
type load struct {
	t                *testing.T
	done             chan struct{}
	clients          sync.WaitGroup
	requests, failed atomic.Int64
	first            atomic.Value
}

func (w *world) load(t *testing.T, address string) *load {
	t.Helper()
	l := &load{t: t, done: make(chan struct{})}
	for range 4 {
		l.clients.Go(func() {
			for {
				select {
				case <-l.done:
					return
				default:
				}
				status, body, err := w.get(address)
				l.requests.Add(1)
				if err != nil || status != http.StatusOK {
					l.failed.Add(1)
					l.first.CompareAndSwap(nil, fmt.Sprintf("%d %q, %v", status, body, err))
				}
			}
		})
	}
	t.Cleanup(l.stop)
	l.until("requests flow", func() bool { return l.requests.Load() > 20 })
	return l
}

func (l *load) until(what string, is func() bool) {
	l.t.Helper()
	eventually(l.t, what, func() error {
		if is() {
			return nil
		}
		return fmt.Errorf("%d requests, %d failed", l.requests.Load(), l.failed.Load())
	})
}

func (l *load) stop() {
	select {
	case <-l.done:
	default:
		close(l.done)
	}
	l.clients.Wait()
}

func (l *load) wantNoFailure() {
	l.t.Helper()
	l.stop()
	if l.failed.Load() > 0 {
		l.t.Errorf("%d of %d requests failed, the first with %v", l.failed.Load(), l.requests.Load(), l.first.Load())
	}
	l.t.Logf("%d requests", l.requests.Load())
}

func (l *load) wantFailure() {
	l.t.Helper()
	l.until("requests fail", func() bool { return l.failed.Load() > 0 })
	l.stop()
}
