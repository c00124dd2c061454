package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// maxBytes bounds an answer: 16 GiB.
const maxBytes = 16 << 30

// An echo answers requests as their parameters say:
//
//	delay=2s   wait so long before the answer
//	status=500 answer with this status
//	fail=2     answer the first so many requests of each id with the status (503 by default), and then one well
//	bytes=1024 answer with so many bytes
//	id=name    count the request under this name; /count?id=name tells how many there were
//
// /headers answers with the first line and the headers that arrived. Every answer names the pod, in the header X-Echo-Pod,
// and how many bytes the request had.
type echo struct {
	pod    string
	delay  time.Duration // before each answer, unless the request asks for another
	status int           // of each answer, unless the request asks for another
	body   string        // of each answer, unless the request asks for bytes; empty is a line about the request
	mu     sync.Mutex
	counts map[string]int
}

func newEcho(c config) *echo {
	return &echo{pod: c.pod, delay: c.delay, status: c.status, body: c.body, counts: map[string]int{}}
}

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Echo-Pod", e.pod)
	w.Header().Set("Content-Type", "text/plain") // of what is echoed, a browser shall run nothing
	switch r.URL.Path {
	case "/count":
		fmt.Fprintln(w, e.count(r.FormValue("id"), 0))
	case "/headers":
		fmt.Fprintf(w, "%s %s %s\nHost: %s\n", r.Method, r.URL.Path, r.Proto, r.Host) //nolint:gosec // G705: plain text
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			for _, value := range r.Header[name] {
				fmt.Fprintf(w, "%s: %s\n", name, value) //nolint:gosec // G705: plain text
			}
		}
	default:
		e.answer(w, r)
	}
}

// count adds to the requests of an id and returns how many there are.
func (e *echo) count(id string, n int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.counts[id] += n
	return e.counts[id]
}

// A wish is what a request asks for.
type wish struct {
	delay        time.Duration
	status, fail int
	bytes        int64
}

func parseWish(r *http.Request) (wish, error) {
	var (
		w       wish
		query   = r.URL.Query()
		integer = func(name string, most int64) (int64, error) {
			text := query.Get(name)
			if text == "" {
				return 0, nil
			}
			n, err := strconv.ParseInt(text, 10, 64)
			if err != nil || n < 0 || n > most {
				return 0, fmt.Errorf("%s=%q: expected an integer from 0 to %d", name, text, most)
			}
			return n, nil
		}
	)
	if text := query.Get("delay"); text != "" {
		var err error
		if w.delay, err = time.ParseDuration(text); err != nil || w.delay < 0 {
			return w, fmt.Errorf("delay=%q: expected a duration such as 2s", text)
		}
	}
	status, err := integer("status", 599)
	if err != nil {
		return w, err
	}
	if status != 0 && status < 200 {
		return w, fmt.Errorf("status=%d: expected 200 to 599", status)
	}
	fail, err := integer("fail", 1000)
	if err != nil {
		return w, err
	}
	w.status, w.fail = int(status), int(fail)
	w.bytes, err = integer("bytes", maxBytes)
	return w, err
}

func (e *echo) answer(w http.ResponseWriter, r *http.Request) {
	wish, err := parseWish(r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	number := e.count(r.URL.Query().Get("id"), 1)
	received, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		return // the client went
	}
	select {
	case <-time.After(cmp.Or(wish.delay, e.delay)):
	case <-r.Context().Done():
		return
	}
	status := cmp.Or(wish.status, e.status)
	if wish.fail > 0 {
		switch {
		case number%(wish.fail+1) == 0:
			status = http.StatusOK
		case status == 0:
			status = http.StatusServiceUnavailable
		}
	}
	if status == 0 {
		status = http.StatusOK
	}
	if wish.bytes == 0 {
		w.WriteHeader(status)
		if e.body != "" {
			_, _ = io.WriteString(w, e.body) // fails when the client goes
			return
		}
		fmt.Fprintf(w, "%s: %s %s, %d bytes\n", e.pod, r.Method, r.URL.Path, received) //nolint:gosec // G705: plain text
		return
	}
	w.Header().Set("Content-Length", strconv.FormatInt(wish.bytes, 10))
	w.WriteHeader(status)
	_, _ = io.CopyN(w, zeros{}, wish.bytes) // fails when the client goes
}

// zeros is an endless stream of them.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}
