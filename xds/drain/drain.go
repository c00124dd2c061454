// Package drain lets the ingress gateway's Envoy finish what it has begun before it is stopped: stock Envoy drops it all
// at SIGTERM.
package drain

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A Drainer ends the conversations of one Envoy.
type Drainer struct {
	// Socket is the path of Envoy's admin interface.
	Socket string
	// StatPrefix is the connection managers' whose connections count.
	StatPrefix string
	// Delay is how long connections are taken in any case: load balancers go on making them until they have noticed.
	Delay time.Duration
	// Close is Envoy's own --drain-time-s. After it, every answer is the last of its connection: what is still open has been
	// silent since, but for requests that take long.
	Close time.Duration
	// Spare is how much longer silent connections are left alone: one that speaks meanwhile ends with an answer, and one that
	// is ended may be about to speak.
	Spare time.Duration
	// Silent is the file by which Envoy is told to end silent connections, in the seconds that its bootstrap says: an injected
	// resource of its overload manager, 0 or 1.
	Silent string
	// Quiet is how long nothing must end after that until what is left is cut. It is longer than Envoy takes to end silent
	// connections.
	Quiet time.Duration
	// Timeout is when it ends, whatever is still open.
	Timeout time.Duration
	// Interval is how often Envoy is asked; 0 for 200 ms.
	Interval time.Duration
	Logger   *slog.Logger
}

// open is what Envoy has not finished.
type open struct{ connections, requests int }

// A state is what is known when Envoy has been asked.
type state struct {
	open
	// passed is since the drain began, unchanged since the number of connections changed.
	passed, unchanged time.Duration
}

// Prepare lets Envoy find the file, in which it has nothing to end yet.
func (d Drainer) Prepare() error { return d.silent("0") }

// silent replaces the file as a whole, which is what Envoy notices.
func (d Drainer) silent(pressure string) error {
	next := d.Silent + ".next"
	if err := os.WriteFile(next, []byte(pressure), 0o600); err != nil {
		return fmt.Errorf("tell Envoy about silent connections: %w", err)
	}
	if err := os.Rename(next, d.Silent); err != nil {
		return fmt.Errorf("tell Envoy about silent connections: %w", err)
	}
	return nil
}

// patience is how long one question waits: Envoy's main thread answers, which may be busy with a large configuration.
const patience = 5 * time.Second

// Run returns when nothing is left that waits for an answer, at the timeout, or when ctx ends. An error says that Envoy
// is gone, or could not be asked at all.
func (d Drainer) Run(ctx context.Context) error {
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", d.Socket)
		},
	}}
	d.Interval = cmp.Or(d.Interval, 200*time.Millisecond)
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	// From now on Envoy answers with "connection: close" and GOAWAY: on few connections first, and on all after its drain
	// time, so that clients do not all come to the other replicas at once. It still takes connections.
	if _, err := d.persist(limited, client, http.MethodPost, "/drain_listeners?graceful&skip_exit"); err != nil {
		return fmt.Errorf("begin to drain: %w", err)
	}
	d.Logger.Info("drains", "delay", d.Delay.String(), "timeout", d.Timeout.String())
	closing := time.AfterFunc(d.Close+d.Spare-time.Since(began), func() {
		if err := d.silent("1"); err != nil {
			d.Logger.Warn("silent connections stay", "error", err)
		}
	})
	defer closing.Stop()
	tick := time.NewTicker(d.Interval)
	defer tick.Stop()
	s, changed := state{open: open{connections: -1}}, began
	for {
		left, err := d.open(limited, client)
		switch {
		case err != nil && (limited.Err() == nil || ctx.Err() != nil):
			return fmt.Errorf("look what is open: %w", err)
		case err == nil && left.connections != s.connections:
			changed = time.Now()
		}
		if err == nil {
			s.open = left
		}
		if s.passed, s.unchanged = time.Since(began), time.Since(changed); d.done(s) {
			d.Logger.Info("drained", "took", s.passed.Round(time.Millisecond).String(), "connections", s.connections, "requests", s.requests)
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// persist asks until there is an answer. Only an Envoy that is gone, which has nothing left to wait for, and the end of ctx
// are errors.
func (d Drainer) persist(ctx context.Context, client *http.Client, method, path string) (string, error) {
	for {
		text, err := ask(ctx, client, method, path)
		gone := errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist)
		if err == nil || gone || ctx.Err() != nil {
			return text, err
		}
		d.Logger.Warn("asks again", "error", err)
		select {
		case <-time.After(d.Interval):
		case <-ctx.Done():
			return "", err
		}
	}
}

// done tells whether to end.
func (d Drainer) done(s state) bool {
	switch {
	case s.passed >= d.Timeout:
		return true
	case s.passed < d.Delay:
		return false
	case s.passed < d.Close+d.Spare:
		return s.connections == 0
	}
	return s.connections == 0 || s.requests == 0 && s.unchanged >= d.Quiet
}

// open asks Envoy for what is active.
func (d Drainer) open(ctx context.Context, client *http.Client) (open, error) {
	prefix := "http." + d.StatPrefix + ".downstream_"
	filter := "^" + regexp.QuoteMeta(prefix) + "(cx|rq)_active$"
	text, err := d.persist(ctx, client, http.MethodGet, "/stats?filter="+url.QueryEscape(filter))
	if err != nil {
		return open{}, err
	}
	var left open
	for name, to := range map[string]*int{prefix + "cx_active": &left.connections, prefix + "rq_active": &left.requests} {
		if *to, err = stat(text, name); err != nil {
			return open{}, err
		}
	}
	return left, nil
}

// stat reads a line "name: 5". A statistic that is not there is an error: nobody would be waited for.
func stat(text, name string) (int, error) {
	lines := bufio.NewScanner(strings.NewReader(text))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), name+": "); found {
			n, err := strconv.Atoi(value)
			if err != nil {
				return 0, fmt.Errorf("statistic %s: %w", name, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("statistic %s: Envoy has none of this name", name)
}

func ask(ctx context.Context, client *http.Client, method, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://envoy"+path, http.NoBody)
	if err != nil {
		return "", err
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s %s: %s: %s", method, path, response.Status, text)
	}
	return string(text), nil
}
