package envoy

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A proxy is a real Envoy with the resources of one open port, which it binds itself for want of a redirect.
type proxy struct {
	address string
	lines   chan string // of its standard output: the access log
}

// start runs Envoy in front of a server until the test ends.
func start(t *testing.T, accessLog envoy.AccessLog, server string) *proxy {
	at := netip.MustParseAddrPort(injected.FreeAddress(t))
	path := filepath.Join(t.TempDir(), "envoy.json")
	if err := os.WriteFile(path, static(t, accessLog, at, netip.MustParseAddrPort(server)), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	envoy := exec.CommandContext(ctx, binary, "--config-path", path, "--disable-hot-restart", "--concurrency", "1",
		"--file-flush-interval-msec", "10", "--reject-unknown-dynamic-fields")
	out, err := envoy.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := envoy.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(); _ = envoy.Wait() })
	p := &proxy{address: at.String(), lines: make(chan string, 100)}
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
	}()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		connection, err := net.Dial("tcp", p.address)
		if err == nil {
			_ = connection.Close()
			return p
		}
		time.Sleep(5 * time.Millisecond) // Envoy does not say when its workers accept
	}
	t.Fatal("envoy does not accept connections")
	return nil
}

// static is the configuration of an open http port at an address, with one endpoint.
func static(t *testing.T, accessLog envoy.AccessLog, at, server netip.AddrPort) []byte {
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: accessLog})
	if err != nil {
		t.Fatal(err)
	}
	resources, err := translator.Port(mesh.Port{
		Owner: mesh.Object{Kind: "Service", Namespace: "default", Name: "web"}, Number: at.Port(), Protocol: label.HTTP,
		Addresses: []netip.AddrPort{at}, Endpoints: []mesh.Endpoint{{Address: server, Weight: 100}},
	})
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]object{}
	for _, r := range resources {
		message, err := r.Body.UnmarshalNew()
		if err != nil {
			t.Fatal(err)
		}
		text, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(message)
		if err != nil {
			t.Fatal(err)
		}
		var part object
		if err := json.Unmarshal(text, &part); err != nil {
			t.Fatal(err)
		}
		parts[r.Type[strings.LastIndexByte(r.Type, '.')+1:]] = part
	}
	listener, cluster, route := parts["Listener"], parts["Cluster"], parts["RouteConfiguration"]
	inlineRoute(t, listener, map[any]object{route["name"]: route})
	listener["bind_to_port"] = true
	delete(cluster, "eds_cluster_config")
	cluster["type"], cluster["load_assignment"] = "STATIC", parts["ClusterLoadAssignment"]
	text, err := json.Marshal(object{"static_resources": object{"listeners": []object{listener}, "clusters": []object{cluster}}})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// logged waits for the last of the lines and returns all, each without its time, duration and endpoint.
func (p *proxy) logged(t *testing.T, last string) []string {
	var all []string
	for {
		select {
		case line := <-p.lines:
			fields := strings.Fields(line)
			if len(fields) != 10 || !regexp.MustCompile(`^\[20..-..-..T..:..:..\....Z\]$`).MatchString(fields[0]) {
				t.Fatalf("a line with other columns: %q", line)
			}
			all = append(all, strings.Join([]string{fields[1], fields[2], fields[3], fields[4], fields[7]}, " "))
			if fields[2] == last {
				return all
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s is not in the log: %q", last, all)
		}
	}
}

func get(t *testing.T, url string, headers ...string) (*http.Response, string) {
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

// answers says with which status a server answers a path, and whether a gRPC call failed.
func answers(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/missing":
		w.WriteHeader(http.StatusNotFound)
	case "/broken":
		w.WriteHeader(http.StatusInternalServerError)
	case "/grpc-failed":
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "14")
	case "/grpc-fine":
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Grpc-Status", "0")
	}
}

// TestAccessLog reads what kubectl logs POD -c traffic-envoy shows for each value of the flag.
func TestAccessLog(t *testing.T) {
	const end = "GET /end HTTP/1.1 503 UF" // its server is gone
	wants := map[envoy.AccessLog][]string{
		envoy.LogAll: {
			"GET /fine HTTP/1.1 200 -", "GET /missing HTTP/1.1 404 -", "GET /broken HTTP/1.1 500 -",
			"GET /grpc-failed HTTP/1.1 200 -", "GET /grpc-fine HTTP/1.1 200 -", end,
		},
		envoy.LogErrors: {"GET /broken HTTP/1.1 500 -", "GET /grpc-failed HTTP/1.1 200 -", end},
	}
	for accessLog, want := range wants {
		t.Run(string(accessLog), func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(answers))
			p := start(t, accessLog, server.Listener.Addr().String())
			for _, path := range []string{"/fine", "/missing", "/broken", "/grpc-failed", "/grpc-fine"} {
				var headers []string
				if strings.HasPrefix(path, "/grpc") {
					headers = []string{"Content-Type", "application/grpc"}
				}
				get(t, "http://"+p.address+path, headers...)
			}
			server.Close()
			get(t, "http://"+p.address+"/end")
			if got := p.logged(t, "/end"); !slices.Equal(got, want) {
				t.Errorf("logged\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestRequestsPassUnchanged: an application must not notice that a port is open through Envoy rather than without.
func TestRequestsPassUnchanged(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Server", "mine")
		if r.URL.Path == "/slow" {
			time.Sleep(16 * time.Second) // longer than Envoy's own request timeout
		}
		_ = r.Header.Write(w)
		fmt.Fprintln(w, r.Proto, r.Host, r.RequestURI)
	}))
	defer server.Close()
	p := start(t, envoy.LogOff, server.Listener.Addr().String())

	// Of a private address, too, what it writes steers no proxy.
	for _, address := range []string{"192.0.2.1", "10.0.0.1"} {
		t.Run("headers from "+address, func(t *testing.T) {
			response, body := get(t, "http://"+p.address+"/a//b/../c%2Fd?e=f", "X-Forwarded-For", address, "X-Mine", "yes", "X-Envoy-Max-Retries", "9")
			if response.Header.Get("Server") != "mine" {
				t.Errorf("the server's name is %q", response.Header.Get("Server"))
			}
			for _, want := range []string{"X-Forwarded-For: " + address + "\r\n", "X-Mine: yes\r\n", "HTTP/1.1 " + p.address + " /a//b/../c%2Fd?e=f\n"} {
				if !strings.Contains(body, want) {
					t.Errorf("the server did not get %q:\n%s", want, body)
				}
			}
			for name := range response.Header {
				if strings.HasPrefix(name, "X-Envoy") {
					t.Errorf("the client got %s", name)
				}
			}
			if strings.Contains(body, "X-Envoy") || strings.Contains(body, "X-Request-Id") {
				t.Errorf("the server got\n%s", body)
			}
		})
	}
	t.Run("an offer to speak TLS", func(t *testing.T) {
		response, _ := get(t, "http://"+p.address+"/", "Connection", "Upgrade", "Upgrade", "TLS/1.2")
		if response.StatusCode != http.StatusOK {
			t.Errorf("status %d", response.StatusCode)
		}
	})
	t.Run("HTTP/1.0 without a host", func(t *testing.T) {
		connection, err := net.Dial("tcp", p.address)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		fmt.Fprint(connection, "GET /old HTTP/1.0\r\n\r\n")
		answer, err := io.ReadAll(connection)
		if err != nil || !strings.Contains(string(answer), " 200 OK") || !strings.Contains(string(answer), "web.default /old") {
			t.Errorf("%v\n%s", err, answer)
		}
	})
	t.Run("an answer that takes long", func(t *testing.T) {
		if response, _ := get(t, "http://"+p.address+"/slow"); response.StatusCode != http.StatusOK {
			t.Errorf("status %d", response.StatusCode)
		}
	})
}
