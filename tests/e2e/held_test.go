package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// A held connection is one that its client keeps, and asks something ten times a second.
type held struct {
	name string
	dial func(context.Context) (net.Conn, error)
	stop context.CancelFunc
	done sync.WaitGroup
	// connections is how many it took; most is how many it may.
	asked, connections, most int
	failures                 []error
}

// hold connects to an address that speaks HTTP/1.1, through whatever, and anew when it is told that an answer was the last.
func (c sender) hold(name, address string, most int) *held {
	ctx, stop := context.WithCancel(context.Background())
	h := &held{name: c.name + name, stop: stop, most: most}
	h.dial = func(ctx context.Context) (net.Conn, error) { return c.dial(ctx, "tcp", address) }
	h.done.Go(func() {
		for ctx.Err() == nil {
			if err := h.live(ctx); err != nil && ctx.Err() == nil {
				h.failures = append(h.failures, err)
				time.Sleep(holdPause)
			}
		}
	})
	return h
}

const holdPause = 100 * time.Millisecond

// live is one connection, until ctx ends or the server says that it was the last answer.
func (h *held) live(ctx context.Context) error {
	conn, err := h.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	h.connections++
	reader := bufio.NewReader(conn)
	for ctx.Err() == nil {
		last, err := askHTTP(conn, reader)
		h.asked++
		if err != nil {
			return fmt.Errorf("request %d, on connection %d: %w", h.asked, h.connections, err)
		}
		if last {
			return nil
		}
		select {
		case <-ctx.Done():
		case <-time.After(holdPause):
		}
	}
	return nil
}

// askHTTP reports whether the server closes the connection behind its answer.
func askHTTP(conn net.Conn, reader *bufio.Reader) (last bool, err error) {
	if err := conn.SetDeadline(time.Now().Add(endurance)); err != nil {
		return false, err
	}
	if _, err := fmt.Fprint(conn, "POST / HTTP/1.1\r\nHost: echo\r\nContent-Length: 1\r\n\r\nx"); err != nil {
		return false, err
	}
	response, err := http.ReadResponse(reader, nil)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(io.Discard, response.Body)
	if response.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(response.Status))
	}
	return response.Close, err
}

// end stops asking. Nothing may have failed.
func (h *held) end(t *testing.T) {
	t.Helper()
	h.stop()
	h.done.Wait()
	t.Logf("%s: asked %d times, over %d connections", h.name, h.asked, h.connections)
	if h.asked == 0 || len(h.failures) > 0 || h.connections > h.most {
		t.Errorf("%s: asked %d times, over %d connections, at most %d are needed; failures: %v", h.name, h.asked, h.connections, h.most, h.failures)
	}
}
