package bootstrap_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/verify"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// started is a sidecar with an empty configuration from its control plane, redirected, ready.
func started(t *testing.T, change func(*inject.Config)) *sidecar {
	t.Helper()
	s := newSandbox(t)
	c := newControl(t, s, nil).open()
	conf := injected.Config(c.port, c.ca)
	if change != nil {
		change(&conf)
	}
	pod := injected.Pod(t, "shop", "web-0", conf)
	injected.Redirect(t, s.pod, pod)
	sidecar := s.run(t, pod, volumes(t, pod, "token"))
	sidecar.ready(t)
	return sidecar
}

func passthrough(c *inject.Config) { c.OutboundPolicy = inject.Passthrough }

// TestReadyWithTheFirstConfiguration: a pod starts when its configuration is in, not before, and stays ready when the
// control plane is gone.
func TestReadyWithTheFirstConfiguration(t *testing.T) {
	s := newSandbox(t)
	c := newControl(t, s, nil)
	pod := injected.Pod(t, "shop", "web-0", injected.Config(c.port, c.ca))
	injected.Redirect(t, s.pod, pod)
	sidecar := s.run(t, pod, volumes(t, pod, "token"))
	if got := receive(t, c.nodes); got != nodeID {
		t.Errorf("node id %q, want %q", got, nodeID)
	}
	if status, _, err := get(s.world, "http://"+podIPv4+":8900/ready"); err == nil {
		t.Errorf("the startup probe gets %d before there is a configuration", status)
	}
	c.open()
	sidecar.ready(t)
	c.server.Stop()
	eventually(t, "Envoy sees that the control plane is gone", func() error {
		_, metrics, err := get(s.world, "http://"+podIPv4+":8900/stats/prometheus")
		if err == nil && !strings.Contains(metrics, "envoy_control_plane_connected_state{} 0") {
			err = fmt.Errorf("still connected")
		}
		return err
	})
	if status, _, err := get(s.world, "http://"+podIPv4+":8900/ready"); status != http.StatusOK {
		t.Errorf("not ready without the control plane: %d, %v", status, err)
	}
}

func receive(t *testing.T, from <-chan string) string {
	t.Helper()
	select {
	case s := <-from:
		return s
	case <-time.After(patience):
		t.Fatalf("nothing came in %s", patience)
		return ""
	}
}

// TestWhatOthersReach: outside the pod there is /ready and /stats/prometheus, and nothing else of the sidecar, even where
// the redirect's rules are missing.
func TestWhatOthersReach(t *testing.T) {
	s := newSandbox(t)
	c := newControl(t, s, nil).open()
	pod := injected.Pod(t, "shop", "web-0", injected.Config(c.port, c.ca))
	sidecar := s.run(t, pod, volumes(t, pod, "token"))
	sidecar.ready(t)
	for path, want := range map[string]int{
		"/ready": 200, "/stats/prometheus": 200, "/stats/prometheus?usedonly": 200,
		"/": 404, "/stats": 404, "/config_dump": 404, "/quitquitquit": 404, "/ready/": 404, "//ready": 404, "/help": 404,
	} {
		if status, _, err := get(s.world, "http://"+podIPv4+":8900"+path); status != want {
			t.Errorf("GET %s: %d, %v; want %d", path, status, err, want)
		}
	}
	if status, _, err := post(s.world, "http://"+podIPv4+":8900/ready", 0); status != http.StatusNotFound {
		t.Errorf("POST /ready: %d, %v; want 404", status, err)
	}
	for _, address := range []string{net.JoinHostPort(podIPv4, "10000"), net.JoinHostPort(podIPv6, "10000")} {
		if _, _, err := get(s.world, "http://"+address); err == nil {
			t.Errorf("%s answers others", address)
		}
	}
	want := []string{"10.244.0.2:8900", "127.0.0.1:10000", "[::1]:10000"}
	if got := sidecar.listening(t); !slices.Equal(got, want) {
		t.Errorf("Envoy listens on %q, want %q", got, want)
	}
}

// listening lists the TCP addresses on which Envoy's network namespace listens, but for the test's control plane.
func (c *sidecar) listening(t *testing.T) []string {
	t.Helper()
	var out []byte
	injected.Inside(t, c.pod, func() (err error) {
		out, err = exec.Command("ss", "--no-header", "--listening", "--tcp", "--numeric", "--processes").Output()
		return err
	})
	var found []string
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, `("envoy",`) {
			found = append(found, strings.Fields(line)[3])
		}
	}
	slices.Sort(found)
	return found
}

// TestBlocked: what no label opens is answered 404 at once, or closed after a second when the client waits for the
// server to speak, and the log says so. IPv4 and IPv6 alike.
func TestBlocked(t *testing.T) {
	c := started(t, nil)
	for _, host := range []string{"10.96.0.9", "[fd00:96::9]"} {
		status, body, err := get(c.pod, "http://"+host+":9080/reviews/0")
		if status != http.StatusNotFound || !strings.Contains(body, "no traffic.port label") {
			t.Errorf("%s: %d %q, %v; want 404 with a reason", host, status, body, err)
		}
	}
	for _, size := range []int{1 << 10, 100 << 10, 8 << 20} {
		if status, _, err := post(c.pod, "http://10.96.0.9:9081/upload", size); status != http.StatusNotFound {
			t.Errorf("POST of %d bytes: %d, %v; want 404, not a reset", size, status, err)
		}
	}
	answer, took := c.converse(t, "10.96.0.9:9082", "GET / HTTP/1.1\r\nHost: reviews\r\n\r\n")
	if !strings.Contains(answer, "connection: close") || took > time.Second {
		t.Errorf("the connection stays, and its client would not see that the port is opened: %s, %q", took, answer)
	}
	if _, took := c.converse(t, "10.96.0.9:5432", ""); took < 900*time.Millisecond || took > 2*time.Second {
		t.Errorf("a client that waits for the server was closed after %s, want a second", took)
	}
	if _, took := c.converse(t, "10.96.0.9:5433", "\x16\x03\x01\x00\x05hello"); took > time.Second {
		t.Errorf("a client that speaks no HTTP was closed after %s, want at once", took)
	}
	for _, line := range []string{
		"] GET /reviews/0 HTTP/1.1 404 0 67 - 10.96.0.9:9080 blocked: no label opens 10.96.0.9:9080\n",
		"] GET /reviews/0 HTTP/1.1 404 0 67 - [fd00:96::9]:9080 blocked: no label opens [fd00:96::9]:9080\n",
		"- 10.96.0.9:5432 blocked: no label opens this address\n",
		" 10.96.0.9:5433 blocked: no label opens this address\n",
	} {
		c.logs(t, line, 1)
	}
}

// logs waits until the log has a text, and holds it to how often.
func (c *sidecar) logs(t *testing.T, text string, times int) {
	t.Helper()
	eventually(t, "the log says "+text, func() error {
		if n := strings.Count(c.log.String(), text); n != times {
			return fmt.Errorf("%d times, want %d", n, times)
		}
		return nil
	})
}

// converse sends text to an address and returns what came back until the connection was closed, and when that was.
func (c *sidecar) converse(t *testing.T, address, text string) (string, time.Duration) {
	t.Helper()
	var conn net.Conn
	injected.Inside(t, c.pod, func() (err error) {
		conn, err = net.DialTimeout("tcp", address, patience)
		return err
	})
	defer conn.Close()
	start := time.Now()
	if err := conn.SetDeadline(start.Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatalf("%s: %v", address, err)
	}
	return string(answer), time.Since(start)
}

// TestVerified: traffic-verify finds its Envoy under both policies, whatever is excluded; its own program says so.
func TestVerified(t *testing.T) {
	for _, policy := range []inject.Policy{inject.Block, inject.Passthrough} {
		t.Run(string(policy), func(t *testing.T) {
			c := started(t, func(c *inject.Config) { c.OutboundPolicy = policy })
			targets, err := verify.Targets(podIPv4 + "," + podIPv6)
			if err != nil {
				t.Fatal(err)
			}
			for _, target := range targets {
				status, body, err := get(c.pod, "http://"+target.Addr+"/")
				if status != http.StatusOK || body != nodeID {
					t.Errorf("%s: %d %q, %v; want the node id %q", target.Addr, status, body, err, nodeID)
				}
			}
			if strings.Contains(c.log.String(), "198.51.100") {
				t.Errorf("the check is in the access log:\n%s", c.log)
			}
		})
	}
}

// TestPassthrough: what no label opens goes where it was sent; the proxy's own port does not go round in circles.
func TestPassthrough(t *testing.T) {
	c := started(t, passthrough)
	var listeners [2]net.Listener
	injected.Inside(t, c.world, func() (err error) {
		if listeners[0], err = net.Listen("tcp4", nodeIPv4+":7000"); err == nil {
			listeners[1], err = net.Listen("tcp6", "["+nodeIPv6+"]:7000")
		}
		return err
	})
	seen := make(chan string, 2)
	for _, l := range listeners {
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			seen <- r.RemoteAddr
			fmt.Fprint(w, "from the world")
		})}
		go func() { _ = server.Serve(l) }()
		t.Cleanup(func() { server.Close() })
		status, body, err := get(c.pod, "http://"+l.Addr().String())
		if status != http.StatusOK || body != "from the world" {
			t.Errorf("%s: %d %q, %v", l.Addr(), status, body, err)
		}
	}
	for _, address := range []string{"127.0.0.1:10000", "[::1]:10000"} {
		if status, _, err := get(c.pod, "http://"+address); status != http.StatusNotFound {
			t.Errorf("%s: %d, %v; want 404", address, status, err)
		}
	}
	_, metrics, err := get(c.world, "http://"+podIPv4+":8900/stats/prometheus")
	if want := `envoy_cluster_upstream_cx_total{envoy_cluster_name="traffic-passthrough"} 2`; !strings.Contains(metrics, want) {
		t.Errorf("%v: no %s in\n%s", err, want, metrics)
	}
}

// TestRestart: the kubelet starts a sidecar that was killed in the same volumes, where its admin socket still lies.
func TestRestart(t *testing.T) {
	c := started(t, nil)
	c.kill()
	again := c.again(t)
	again.ready(t)
	if status, _, err := get(c.pod, "http://10.96.0.9"); status != http.StatusNotFound {
		t.Errorf("%d, %v", status, err)
	}
}

// TestTwoEnvoys: an application may run an Envoy of its own beside the sidecar.
func TestTwoEnvoys(t *testing.T) {
	c := started(t, nil)
	app := exec.Command(envoy, "--concurrency", "1", "--log-level", "warning", "--config-yaml",
		"{admin: {address: {socket_address: {address: 127.0.0.1, port_value: 19000}}}}")
	var log injected.Output
	app.Stdout, app.Stderr = &log, &log
	injected.Inside(t, c.pod, app.Start)
	defer func() {
		_ = app.Process.Kill()
		_ = app.Wait()
	}()
	eventually(t, "the application's Envoy is ready", func() error {
		status, _, err := get(c.pod, "http://127.0.0.1:19000/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", status, &log)
		}
		return err
	})
}
