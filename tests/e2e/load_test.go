package e2e

import (
	"context"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
)

// silence is how long a client keeps a connection that it does not use, as pools of clients do: a gateway that drains closes
// those that were silent for longer, and no server can close one without the risk that a request is on its way, RFC 9112
// section 9.5.
const silence = 20 * time.Second

// endurance is how long clients wait for an answer.
const endurance = 30 * time.Second

// A sender sends requests, over connections that it keeps and over one new connection each.
type sender struct {
	name, url, host string
	// kept and fresh are how many it sends a second.
	kept, fresh int
	// dial connects from where it is; without one, that is this machine.
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A load is requests under way.
type load struct {
	name     string
	attacker *vegeta.Attacker
	metrics  vegeta.Metrics
	done     sync.WaitGroup
	// connections is how many were made.
	connections atomic.Int64
}

// start sends requests until the loads are stopped.
func (c sender) start() []*load {
	return []*load{
		c.attack("kept connections", c.kept, &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: silence}),
		c.attack("new connections", c.fresh, &http.Transport{DisableKeepAlives: true}),
	}
}

// attack sends POST requests, which no client sends a second time by itself. One of ten takes a while, so that some are
// always on their way.
func (c sender) attack(how string, rate int, transport *http.Transport) *load {
	targets := make([]vegeta.Target, 10)
	for i := range targets {
		targets[i] = vegeta.Target{Method: http.MethodPost, URL: c.url, Body: []byte("x"), Header: http.Header{"Host": {c.host}}}
	}
	targets[0].URL += "?delay=500ms"
	dial := c.dial
	if dial == nil {
		dial = new(net.Dialer).DialContext
	}
	l := &load{name: c.name + how}
	transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		l.connections.Add(1)
		return dial(ctx, network, address)
	}
	l.attacker = vegeta.NewAttacker(vegeta.Client(&http.Client{Timeout: endurance, Transport: transport}))
	l.done.Go(func() {
		for result := range l.attacker.Attack(vegeta.NewStaticTargeter(targets...), vegeta.Rate{Freq: rate, Per: time.Second}, 0, "") {
			l.metrics.Add(result)
		}
	})
	return l
}

// stop ends the load. Every request must have been answered, and well.
func (l *load) stop(t *testing.T) {
	t.Helper()
	l.attacker.Stop()
	l.done.Wait()
	l.metrics.Close()
	m := &l.metrics
	t.Logf("%s: %d requests, %.0f a second, over %d connections, %v, p99 %v, at most %v", l.name, m.Requests, m.Rate, l.connections.Load(),
		m.StatusCodes, m.Latencies.P99.Round(time.Millisecond), m.Latencies.Max.Round(time.Millisecond))
	if m.StatusCodes["200"] != int(m.Requests) || m.Requests == 0 {
		t.Errorf("%s: of %d requests %v: %v", l.name, m.Requests, m.StatusCodes, m.Errors)
	}
}
