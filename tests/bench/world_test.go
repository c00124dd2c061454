package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// Addresses of the network for benchmarks, 198.18.0.0/15: the pod's, and those of the two backends outside.
const (
	podAddress  = "198.18.0.10"
	backendPort = 8080
)

var backendAddresses = [podsEach]string{"198.18.0.1", "198.18.0.2"}

// A world is a pod's network namespace and one for everything outside, where the backends are.
type world struct {
	pod, outside ns.NetNS
}

func newWorld(b *testing.B) *world {
	b.Helper()
	w := &world{}
	w.pod, w.outside = injected.Network(b, podAddress, backendAddresses[:]...)
	return w
}

func (w *world) listen(b *testing.B, n ns.NetNS, address string) (listener net.Listener) {
	b.Helper()
	injected.Inside(b, n, func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	})
	b.Cleanup(func() { listener.Close() })
	return listener
}

// serve runs the backends, which answer every request with their names, v1 and v2.
func (w *world) serve(b *testing.B) (backends [podsEach]endpoint) {
	b.Helper()
	for i, address := range backendAddresses {
		name := fmt.Sprintf("v%d", i+1)
		server := &http.Server{
			Handler:           http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, name) }),
			ReadHeaderTimeout: time.Minute,
		}
		l := w.listen(b, w.outside, fmt.Sprintf("%s:%d", address, backendPort))
		go func() { _ = server.Serve(l) }()
		b.Cleanup(func() { server.Close() })
		backends[i] = endpoint{address, backendPort}
	}
	return backends
}

// reach carries connections that the pod makes to its control plane to an address on the machine, until stop is called.
func (w *world) reach(b *testing.B, address string) (port uint16, stop func()) {
	b.Helper()
	l := w.listen(b, w.pod, "127.0.0.1:0")
	go func() {
		for {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", address)
			if err != nil {
				from.Close()
				continue
			}
			go pipe(from, to)
			go pipe(to, from)
		}
	}()
	return portOf(l), func() { l.Close() }
}

func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	to.Close()
	from.Close()
}

func portOf(l net.Listener) uint16 { return uint16(l.Addr().(*net.TCPAddr).Port) }

// dial connects from the pod as an application does.
func (w *world) dial(ctx context.Context, _, address string) (c net.Conn, err error) {
	entered := w.pod.Do(func(ns.NetNS) error {
		c, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, entered
}

// An answer is what came of a request.
type answer struct {
	status int
	body   string
}

// until asks, once in a millisecond, until the answer behaves, and returns when it came. Each request has a connection of
// its own unless keep is true.
func (w *world) until(b *testing.B, url string, keep bool, behaves func(answer) bool) time.Time {
	client := &http.Client{
		Transport: &http.Transport{DialContext: w.dial, DisableKeepAlives: !keep}, Timeout: 5 * time.Second,
	}
	defer client.CloseIdleConnections()
	var last error
	for begin := time.Now(); time.Since(begin) < 30*time.Second; time.Sleep(time.Millisecond) {
		got, err := ask(client, url)
		if err == nil && behaves(got) {
			return time.Now()
		}
		last = errors.Join(err, fmt.Errorf("the last answer: %v", got))
	}
	b.Errorf("%s does not behave after 30 s: %v", url, last)
	return time.Now()
}

func ask(client *http.Client, url string) (answer, error) {
	res, err := client.Get(url)
	if err != nil {
		return answer{}, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return answer{res.StatusCode, string(body)}, err
}
