package xds

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// growth is how much more memory bodies may cost an Envoy at most, however large they are and however slowly they are read.
const growth = 32 << 20

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// bodyServer answers with as many bytes as a request wants, and with how many it had. It counts both; a request to /hold
// is not read before resume is closed.
type bodyServer struct {
	sent, received atomic.Int64
	resume         chan struct{}
}

func (s *bodyServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/hold" {
		<-s.resume
	}
	n, err := io.Copy(counted{&s.received}, r.Body)
	if err != nil {
		return
	}
	size, err := strconv.ParseInt(r.URL.Query().Get("bytes"), 10, 64)
	if err != nil {
		fmt.Fprint(w, n)
		return
	}
	_, _ = io.Copy(io.MultiWriter(w, counted{&s.sent}), io.LimitReader(zeros{}, size))
}

// counted throws away what it counts.
type counted struct{ n *atomic.Int64 }

func (c counted) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}

// speaking is a client of HTTP/1.1, or of HTTP/2 from the first byte.
func (w *world) speaking(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	client := w.client(true)
	transport := client.Transport.(*http.Transport)
	transport.Protocols = new(http.Protocols)
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetUnencryptedHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return client
}

// A weighing follows Envoy's memory.
type weighing struct {
	*sidecar
	t                            *testing.T
	before, most                 int64 // allocated
	residentBefore, mostResident int64
	samples                      int
	stop, stopped                chan struct{}
}

func (s *sidecar) weigh(t *testing.T) *weighing {
	t.Helper()
	w := &weighing{
		sidecar: s, t: t, before: s.allocated(t), residentBefore: s.resident(t),
		stop: make(chan struct{}), stopped: make(chan struct{}),
	}
	go func() {
		defer close(w.stopped)
		for {
			w.most, w.mostResident = max(w.most, s.allocated(t)), max(w.mostResident, s.resident(t))
			w.samples++
			select {
			case <-w.stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	return w
}

// want ends the weighing, prints it, and wants no more growth than what is allowed.
func (w *weighing) want(what string) {
	w.t.Helper()
	close(w.stop)
	<-w.stopped
	const mb = 1 << 20
	w.t.Logf("%s: Envoy has allocated %d MiB before, %d at most, %d after; resident %d, %d, %d (%d samples)", what,
		w.before/mb, w.most/mb, w.allocated(w.t)/mb, w.residentBefore/mb, w.mostResident/mb, w.resident(w.t)/mb, w.samples)
	if w.most-w.before > growth || w.mostResident-w.residentBefore > growth {
		w.t.Errorf("%s: Envoy's memory grew by more than %d MiB", what, growth/mb)
	}
}

// resident is how much memory of the machine Envoy has, in bytes.
func (s *sidecar) resident(t *testing.T) int64 {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		t.Error(err)
		return 0
	}
	_, rest, _ := strings.Cut(string(text), "VmRSS:")
	n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		t.Error(err)
	}
	return n << 10
}

// TestLargeBodies: a GiB each way, by each protocol, streams through Envoy.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	const size = 1 << 30
	w := newWorld(t)
	c := startControl(t, w)
	port := w.serve(t, &bodyServer{})
	services := map[string]*service{
		"http":  newService("web", label.HTTP, port),
		"http2": newService("grpc", label.HTTP2, port),
		"tcp":   newService("bytes", label.TCP, port),
	}
	for _, s := range services {
		c.publish(t, open(t, s))
	}
	s := startSidecar(t, w, c)
	for _, name := range []string{"http", "http2", "tcp"} {
		client := w.speaking(t, name == "http2")
		url := "http://" + services[name].address() + "/"

		weighing := s.weigh(t)
		response, err := client.Post(url, "", io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		answer, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || string(answer) != strconv.Itoa(size) {
			t.Errorf("%s: the server got %s bytes of %d, %v", name, answer, size, err)
		}
		weighing.want(name + ", upload")

		weighing = s.weigh(t)
		response, err = client.Get(url + "?bytes=" + strconv.Itoa(size))
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil || n != size {
			t.Errorf("%s: the client got %d bytes of %d, %v", name, n, size, err)
		}
		weighing.want(name + ", download")
	}
}

// TestSlowReaders: who does not read holds up who writes, in both directions, and Envoy keeps little of it; then all of it
// arrives.
func TestSlowReaders(t *testing.T) {
	t.Parallel()
	const size, readers = 256 << 20, 4
	w := newWorld(t)
	c := startControl(t, w)
	server := &bodyServer{resume: make(chan struct{})}
	port := w.serve(t, server)
	services := map[string]*service{
		"http": newService("web", label.HTTP, port), "http2": newService("grpc", label.HTTP2, port),
	}
	for _, s := range services {
		c.publish(t, open(t, s))
	}
	s := startSidecar(t, w, c)
	for _, name := range []string{"http", "http2"} {
		url := "http://" + services[name].address()
		client := w.speaking(t, name == "http2")

		weighing := s.weigh(t)
		server.sent.Store(0)
		var bodies []io.ReadCloser
		for range readers {
			response, err := client.Get(url + "/?bytes=" + strconv.Itoa(size))
			if err != nil {
				t.Fatal(err)
			}
			bodies = append(bodies, response.Body)
		}
		held := settled(t, &server.sent)
		t.Logf("%s: the server could send %d MiB to %d clients that do not read", name, held>>20, readers)
		if held >= readers*growth {
			t.Errorf("%s: the server sent %d bytes to clients that do not read", name, held)
		}
		for _, body := range bodies {
			if n, err := io.Copy(io.Discard, body); err != nil || n != size {
				t.Errorf("%s: a slow client got %d bytes of %d, %v", name, n, size, err)
			}
			body.Close()
		}
		weighing.want(name + ", slow clients")

		weighing = s.weigh(t)
		server.resume = make(chan struct{})
		var sent atomic.Int64
		answers := make(chan string, readers)
		for range readers {
			go func() {
				body := io.TeeReader(io.LimitReader(zeros{}, size), counted{&sent})
				response, err := client.Post(url+"/hold", "", body)
				if err != nil {
					answers <- err.Error()
					return
				}
				defer response.Body.Close()
				answer, err := io.ReadAll(response.Body)
				answers <- fmt.Sprintf("%s, %v", answer, err)
			}()
		}
		held = settled(t, &sent)
		t.Logf("%s: %d clients could send %d MiB to a server that does not read", name, readers, held>>20)
		if held >= readers*growth {
			t.Errorf("%s: clients sent %d bytes to a server that does not read", name, held)
		}
		close(server.resume)
		for range readers {
			if got, want := <-answers, fmt.Sprintf("%d, <nil>", size); got != want {
				t.Errorf("%s: a slow server says %s, want %s", name, got, want)
			}
		}
		weighing.want(name + ", a slow server")
	}
}

// settled waits until a count has begun and stands still, and returns it.
func settled(t *testing.T, n *atomic.Int64) int64 {
	t.Helper()
	var last int64
	since := time.Now()
	eventually(t, "a count stands still", func() error {
		now := n.Load()
		if now != last || now == 0 {
			last, since = now, time.Now()
		}
		if still := time.Since(since); still < time.Second {
			return fmt.Errorf("%d bytes, for %v", now, still)
		}
		return nil
	})
	return last
}
