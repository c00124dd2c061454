package xds

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

const (
	podAddress     = "10.244.0.2"
	outsideAddress = "10.244.0.1"

	patience = 20 * time.Second
)

// A world is a pod's network namespace and one for everything outside, where the backends are.
type world struct {
	pod, outside ns.NetNS
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{}
	w.pod, w.outside = injected.Network(t, podAddress, outsideAddress)
	return w
}

func listen(t *testing.T, n ns.NetNS, address string) (listener net.Listener) {
	t.Helper()
	injected.Inside(t, n, func() (err error) {
		listener, err = net.Listen("tcp4", address)
		return err
	})
	t.Cleanup(func() { listener.Close() })
	return listener
}

// backend answers every request with its name; /echo answers each line of the body as it comes. It returns its port.
func (w *world) backend(t *testing.T, name string) uint16 {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(rw http.ResponseWriter, _ *http.Request) { fmt.Fprint(rw, name) })
	mux.HandleFunc("/echo", func(rw http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(rw)
		_ = c.EnableFullDuplex()
		rw.WriteHeader(http.StatusOK)
		_ = c.Flush()
		for buf := make([]byte, 1024); ; {
			n, err := r.Body.Read(buf)
			_, _ = rw.Write(buf[:n])
			_ = c.Flush()
			if err != nil {
				return
			}
		}
	})
	return w.serve(t, mux)
}

// serve answers requests outside of the pod. It returns its port.
func (w *world) serve(t *testing.T, handler http.Handler) uint16 {
	t.Helper()
	l := listen(t, w.outside, outsideAddress+":0")
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// echo answers every byte of a connection. It returns its port.
func (w *world) echo(t *testing.T) uint16 {
	t.Helper()
	l := listen(t, w.outside, outsideAddress+":0")
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// dial connects from the pod as an application does.
func (w *world) dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = w.pod.Do(func(ns.NetNS) error {
		c, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}

func (w *world) client(keepAlive bool) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DisableKeepAlives: !keepAlive,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return w.dial(ctx, address) },
	}}
}

// get returns status and body of a request over a new connection.
func (w *world) get(address string) (int, string, error) {
	client := w.client(false)
	client.Timeout = 5 * time.Second
	res, err := client.Get("http://" + address + "/")
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	return res.StatusCode, string(body), err
}

// A held connection is one that a test keeps open and asks now and then whether it still works.
type held struct {
	name string
	ask  func() error
}

// hold keeps a TCP connection.
func (w *world) hold(t *testing.T, address string) held {
	t.Helper()
	c, err := w.dial(t.Context(), address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return held{"TCP connection to " + address, func() error { return askLine(c, c) }}
}

// holdRequest keeps one HTTP request going.
func (w *world) holdRequest(t *testing.T, address string) held {
	t.Helper()
	r, out := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/echo", r)
	if err != nil {
		t.Fatal(err)
	}
	res, err := w.client(true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		out.Close()
		res.Body.Close()
	})
	return held{"HTTP request to " + address, func() error { return askLine(out, res.Body) }}
}

// askLine sends a line and waits for it.
func askLine(out io.Writer, in io.Reader) error {
	const line = "still there?\n"
	result := make(chan error, 1)
	go func() {
		if _, err := io.WriteString(out, line); err != nil {
			result <- err
			return
		}
		got := make([]byte, len(line))
		if _, err := io.ReadFull(in, got); err != nil {
			result <- err
			return
		}
		if string(got) != line {
			result <- fmt.Errorf("answer %q", got)
			return
		}
		result <- nil
	}()
	select {
	case err := <-result:
		return err
	case <-time.After(5 * time.Second):
		return errors.New("no answer in 5 s")
	}
}

func wait(t *testing.T, event <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatalf("not in %v: %s", patience, what)
	}
}

func eventually(t *testing.T, what string, try func() error) {
	t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	t.Fatalf("not in %v: %s: %v", patience, what, err)
}
