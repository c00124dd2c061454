// Package verify finds out, from inside a pod, whether outbound connections of
// that pod reach its own Envoy. It dials addresses that nobody has; only an
// Envoy behind the redirect answers there, with its node id.
//
// It runs in every injected pod's start, between the sidecar and everything
// else. First it waits until the sidecar has its configuration, for as long as
// that takes: the control plane may be away. Then it is done, as a rule, after
// one connection per family. When it is not, it waits for the node agent to
// repair the pod.
package verify

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

const (
	firstPause     = 10 * time.Millisecond
	longestPause   = 640 * time.Millisecond
	attemptTimeout = time.Second // an unredirected connection is answered by nobody
	maxAnswer      = 512         // bytes; a node id has at most 317
)

// Target is an address that must be answered by the pod's Envoy.
type Target struct {
	Family string // IPv4 or IPv6
	Addr   string // host:port
}

// Targets lists what to dial for a pod with the given addresses, separated by
// commas as in status.podIPs: one target per family.
func Targets(podIPs string) ([]Target, error) {
	var v4, v6 bool
	for s := range strings.SplitSeq(podIPs, ",") {
		addr, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return nil, fmt.Errorf("pod addresses %q: %w", podIPs, err)
		}
		v4 = v4 || addr.Unmap().Is4()
		v6 = v6 || addr.Unmap().Is6()
	}
	port := strconv.Itoa(int(redirect.VerifyPort))
	var targets []Target
	if v4 {
		targets = append(targets, Target{"IPv4", net.JoinHostPort(redirect.VerifyIPv4, port)})
	}
	if v6 {
		targets = append(targets, Target{"IPv6", net.JoinHostPort(redirect.VerifyIPv6, port)})
	}
	return targets, nil
}

// ReadyAddr returns where the sidecar of a pod with these addresses says whether
// it is ready: at the first, as Envoy's own configuration has it.
func ReadyAddr(podIPs string, port uint16) (string, error) {
	first, _, _ := strings.Cut(podIPs, ",")
	addr, err := netip.ParseAddr(strings.TrimSpace(first))
	if err != nil {
		return "", fmt.Errorf("pod addresses %q: %w", podIPs, err)
	}
	return netip.AddrPortFrom(addr, port).String(), nil
}

// Verifier waits for the pod's Envoy, then dials until every target has answered
// with NodeID.
type Verifier struct {
	NodeID  string // <pod>.<namespace>, as the sidecar's
	Ready   string // host:port of the sidecar's /ready
	Targets []Target
	Timeout time.Duration // from when the sidecar is ready
	// Out receives one line when the wait begins and one when it ended well.
	Out io.Writer
}

// Run returns nil once all targets answered as they should, or after Timeout an
// error that says what was seen and where to look.
func (v Verifier) Run(ctx context.Context) error {
	start := time.Now()
	if err := v.awaitReady(ctx); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, v.Timeout)
	defer cancel()
	waited := false
	for _, t := range v.Targets {
		if err := v.await(ctx, t, &waited); err != nil {
			return err
		}
	}
	fmt.Fprintf(v.Out, "outbound connections of %s reach its Envoy (%s)\n", v.NodeID, time.Since(start).Round(time.Microsecond))
	return nil
}

// awaitReady waits until the sidecar is ready, without limit: a pod that gave up
// would be started anew after ever longer pauses.
func (v Verifier) awaitReady(ctx context.Context) error {
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		status, answer, err := get(ctx, v.Ready, "/ready")
		if err == nil && status == http.StatusOK {
			return nil
		}
		if err == nil {
			err = fmt.Errorf("it says %d %q", status, strings.TrimSpace(answer))
		}
		if 2*pause == longestPause { // not at once: as a rule it is a matter of milliseconds
			fmt.Fprintf(v.Out, "waiting for the configuration of this pod's Envoy, which comes from traffic-control: %v\n", err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped while waiting for the sidecar to be ready: %w", err)
		case <-time.After(pause):
		}
	}
}

// await dials one target until it answers as it should.
func (v Verifier) await(ctx context.Context, t Target, waited *bool) error {
	var last error
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := v.attempt(ctx, t)
		if err == nil {
			return nil
		}
		if last == nil || !isTimeout(err) { // an answer says more than none in time
			last = err
		}
		if !*waited {
			*waited = true
			fmt.Fprintf(v.Out, "waiting up to %s: %v; the node agent traffic-node repairs pods that started without the redirect\n", v.Timeout, err)
		}
		select {
		case <-ctx.Done():
			return v.gaveUp(ctx, last)
		case <-time.After(pause):
		}
	}
}

func isTimeout(err error) bool {
	var netErr net.Error
	return errors.As(err, &netErr) && netErr.Timeout()
}

func (v Verifier) gaveUp(ctx context.Context, last error) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return fmt.Errorf("stopped while waiting: %w", last)
	}
	return fmt.Errorf("gave up after %s: %w; look at the events of this pod (kubectl describe pod), at the log and "+
		"readiness of traffic-node on this node, and at whether the container runtime hands pod annotations to CNI plugins", v.Timeout, last)
}

// attempt dials one target once.
func (v Verifier) attempt(ctx context.Context, t Target) error {
	_, answer, err := get(ctx, t.Addr, "/")
	if err != nil {
		return fmt.Errorf("an outbound %s connection did not reach this pod's Envoy: %w", t.Family, err)
	}
	if answer != v.NodeID {
		return fmt.Errorf("an outbound %s connection reached %q, not %q, this pod's Envoy", t.Family, answer, v.NodeID)
	}
	return nil
}

// get is one HTTP request on a connection of its own. Not by http.Client: that
// one logs about servers that speak first, and anybody may be answering here.
func get(ctx context.Context, addr, path string) (status int, body string, err error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
	if err != nil {
		return 0, "", err
	}
	defer conn.Close()
	deadline, _ := ctx.Deadline()
	if err := conn.SetDeadline(deadline); err != nil {
		return 0, "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+path, nil)
	if err != nil {
		return 0, "", err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return 0, "", err
	}
	res, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	return res.StatusCode, string(text), err
}
