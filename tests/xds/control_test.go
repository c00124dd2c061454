package xds

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// A control is a serve.Server as traffic-control runs it, on loopback in the pod's network namespace, but for the token,
// which is checked here. Between the two is a cable that a test can cut.
type control struct {
	*serve.Server
	world             *world
	port              uint16
	certFile, keyFile string
	ca                []*x509.Certificate
	registry          *prometheus.Registry
	cable             *cable
	// stop ends the server.
	stop func()

	mu         sync.Mutex
	rejections []serve.Rejection
}

// podTokens accepts the tokens of pods.
type podTokens struct{}

func (podTokens) Authenticate(_ context.Context, got string) (serve.Identity, error) {
	pod, ok := strings.CutPrefix(got, tokenOf)
	if !ok {
		return serve.Identity{}, fmt.Errorf("%w: not a pod's", serve.ErrRefused)
	}
	return serve.Identity{Namespace: "default", ServiceAccount: "default", Pod: pod, UID: pod, NodeID: pod + ".default"}, nil
}

func startControl(t *testing.T, w *world) *control {
	t.Helper()
	c := &control{world: w}
	dir := t.TempDir()
	c.ca = []*x509.Certificate{injected.Certificate(t, dir)}
	c.certFile, c.keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	front := listen(t, w.pod, "127.0.0.1:0")
	c.port = uint16(front.Addr().(*net.TCPAddr).Port)
	c.cable = &cable{world: w}
	go c.cable.run(front)
	c.start(t)
	return c
}

// start begins a server that has published nothing.
func (c *control) start(t *testing.T) {
	t.Helper()
	c.registry = prometheus.NewRegistry()
	server, err := serve.New(serve.Config{
		Linger:        serve.Linger,
		Authenticator: podTokens{}, CertFile: c.certFile, KeyFile: c.keyFile, Registerer: c.registry,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		OnReject: func(r serve.Rejection) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.rejections = append(c.rejections, r)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	c.Server = server
	l := listen(t, c.world.pod, "127.0.0.1:0")
	c.cable.connect(l.Addr().String())
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, l) }()
	c.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		c.cable.cut()
	})
	t.Cleanup(c.stop)
}

// publish waits until every proxy has answered.
func (c *control) publish(t *testing.T, u serve.Update) serve.Applied {
	t.Helper()
	done := make(chan serve.Applied, 1)
	c.Publish(u, func(a serve.Applied) { done <- a })
	select {
	case a := <-done:
		return a
	case <-time.After(patience):
		t.Fatal("an update is not answered")
	}
	return serve.Applied{}
}

func (c *control) rejected() []serve.Rejection {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.rejections)
}

// metric adds up a counter over its labels, or over those with one value.
func (c *control) metric(t *testing.T, name, value string) float64 {
	t.Helper()
	sum := 0.0
	for _, m := range c.family(t, name) {
		labels := m.GetLabel()
		if value == "" || slices.ContainsFunc(labels, func(l *dto.LabelPair) bool { return l.GetValue() == value }) {
			sum += m.GetCounter().GetValue()
		}
	}
	return sum
}

func (c *control) gauge(t *testing.T, name string) float64 {
	t.Helper()
	for _, m := range c.family(t, name) {
		return m.GetGauge().GetValue()
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

func (c *control) family(t *testing.T, name string) []*dto.Metric {
	t.Helper()
	families, err := c.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()
		}
	}
	return nil
}

// A cable carries connections to the server.
type cable struct {
	world *world

	mu    sync.Mutex
	to    string
	conns []net.Conn
	cuts  int
	// after cuts each connection when so many bytes went to the proxy; 0 never does.
	after int64
}

func (c *cable) run(l net.Listener) {
	for {
		proxy, err := l.Accept()
		if err != nil {
			return
		}
		c.mu.Lock()
		to, after := c.to, c.after
		c.mu.Unlock()
		server, err := c.world.dial(context.Background(), to)
		if err != nil {
			proxy.Close()
			continue
		}
		c.mu.Lock()
		c.conns = append(c.conns, proxy, server)
		c.mu.Unlock()
		go func() {
			_, _ = io.Copy(server, proxy)
			server.Close()
		}()
		go func() {
			if after > 0 {
				_, _ = io.CopyN(proxy, server, after)
				c.mu.Lock()
				c.cuts++
				c.mu.Unlock()
			} else {
				_, _ = io.Copy(proxy, server)
			}
			proxy.Close()
			server.Close()
		}()
	}
}

// connect leads new connections to an address.
func (c *cable) connect(to string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.to = to
}

// cut ends all connections; new ones can be made.
func (c *cable) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

// count is how many connections broke by themselves.
func (c *cable) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts
}

// cutAfter makes every later connection break when so many bytes went to the proxy.
func (c *cable) cutAfter(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.after = bytes
}
