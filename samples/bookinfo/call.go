package main

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// forwarded are the request headers that a service hands on when it calls another one. Without them one request through
// four services would be four traces, and a choice by user or cookie would end at the first service.
var forwarded = []string{
	"X-Request-Id",
	"Traceparent", "Tracestate", "Baggage", // W3C
	"B3", "X-B3-Traceid", "X-B3-Spanid", "X-B3-Parentspanid", "X-B3-Sampled", "X-B3-Flags", // Zipkin
	"X-Ot-Span-Context", "X-Cloud-Trace-Context", "Grpc-Trace-Bin", "Sw8",
	"X-Datadog-Trace-Id", "X-Datadog-Parent-Id", "X-Datadog-Sampling-Priority",
	"End-User", "Cookie", "User-Agent",
}

// A call is one request to another service and how it went.
type call struct {
	Service string        `json:"-"`
	Status  int           `json:"status,omitempty"` // 0 when there was no answer
	Pod     string        `json:"podname,omitempty"`
	Version string        `json:"version,omitempty"`
	Blocked bool          `json:"blocked,omitempty"` // the caller's own proxy refused: no label opens the port
	Error   string        `json:"error,omitempty"`
	Took    time.Duration `json:"-"`
}

// caller calls other services. Each call is a connection of its own, so that every balancer on the way, Envoy's or
// the cluster's, chooses anew for each page.
type caller struct {
	http http.Client
}

func newCaller(timeout time.Duration) caller {
	return caller{http.Client{Timeout: timeout, Transport: &http.Transport{DisableKeepAlives: true}}}
}

// get reads JSON from path of service at base into value, on behalf of request.
func (c caller) get(request *http.Request, service, base, path string, value any) call {
	started := time.Now()
	result := call{Service: service}
	body, err := c.fetch(request, base+path, &result)
	if err == nil {
		err = json.Unmarshal(body, value)
	}
	if err != nil {
		result.Error = explain(err)
	}
	result.Took = time.Since(started)
	return result
}

// fetch returns the body of a 200, an error otherwise, and notes in result who answered.
func (c caller) fetch(request *http.Request, url string, result *call) ([]byte, error) {
	out, err := http.NewRequestWithContext(request.Context(), http.MethodGet, url, nil) //nolint:gosec // G704: the host is a flag's, of the path only a number is the user's
	if err != nil {
		return nil, err
	}
	for _, name := range forwarded {
		if values := request.Header.Values(name); len(values) > 0 {
			out.Header[name] = values
		}
	}
	response, err := c.http.Do(out) //nolint:gosec // G704: see above
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	result.Status = response.StatusCode
	result.Pod, result.Version = response.Header.Get(podHeader), response.Header.Get(versionHeader)
	// Every service of this program names its pod, so a nameless 404 came from the proxy on the way.
	result.Blocked = response.StatusCode == http.StatusNotFound && result.Pod == ""
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(strings.TrimSpace(response.Status + " " + string(body)))
	}
	return body, nil
}

// explain says what went wrong in the words of the network rather than of the HTTP library.
func explain(err error) string {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return "no answer in time"
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	return err.Error()
}
