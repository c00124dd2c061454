package ingress

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// An answer is what a server saw of a request, as it said itself; Server is empty if the gateway answered.
type answer struct {
	Status   int
	Server   string
	Host     string
	Path     string
	Protocol string
	Headers  http.Header

	location string
	protocol string // of the client's connection
	shown    string // the name in the certificate that it got
}

// service runs a server behind a Service "name" with port 80.
func (g *gateway) service(name string, labels ...string) {
	g.t.Helper()
	g.serveWith(name, mirror(name), labels...)
}

// serveWith runs one that answers in its own way.
func (g *gateway) serveWith(name string, handler http.HandlerFunc, labels ...string) {
	g.t.Helper()
	l := g.listen(g.outside, serverAddress+":0")
	server := &http.Server{Handler: handler, ReadHeaderTimeout: patience, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(l) }()
	g.t.Cleanup(func() { server.Close() })
	g.serviceAt(name, uint16(l.Addr().(*net.TCPAddr).Port), labels...)
}

// serviceAt is a Service in front of a server at a port.
func (g *gateway) serviceAt(name string, port uint16, labels ...string) {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(&s.ObjectMeta, labels[i], labels[i+1])
	}
	s.Spec.ClusterIP, s.Spec.Ports = "10.96.0.1", []corev1.ServicePort{{Port: 80}}
	g.mesh.SetService(s)
	g.endpoints(name, port)
}

// mirror says what it was asked.
func mirror(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_ = json.NewEncoder(w).Encode(answer{Server: name, Host: r.Host, Path: r.RequestURI, Protocol: r.Proto, Headers: r.Header})
	}
}

// client asks the gateway, whatever host it is asked for, and follows no redirect.
func (g *gateway) client(config *tls.Config) *http.Client {
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	return &http.Client{
		Timeout:       patience,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			ForceAttemptHTTP2: true, TLSClientConfig: config,
			DialContext: func(ctx context.Context, _, address string) (net.Conn, error) {
				_, port, _ := net.SplitHostPort(address)
				if len(port) < 4 {
					port = map[string]string{"80": "8080", "443": "8443"}[port]
				}
				return g.dial(ctx, gatewayAddress+":"+port)
			},
		},
	}
}

// get asks for a URL over a new connection.
func (g *gateway) get(url string, headers ...string) answer {
	g.t.Helper()
	client := g.client(nil)
	defer client.CloseIdleConnections()
	a, err := ask(client, url, headers...)
	if err != nil {
		g.t.Fatalf("%s: %v", url, err)
	}
	return a
}

// statistic returns a counter or gauge of Envoy.
func (g *gateway) statistic(name string) string {
	g.t.Helper()
	text := string(g.admin("/stats?filter=^" + name + "$"))
	_, value, found := strings.Cut(strings.TrimSpace(text), name+": ")
	if !found {
		g.t.Fatalf("no statistic %s: %q", name, text)
	}
	return value
}

// admin asks Envoy's admin interface.
func (g *gateway) admin(path string) []byte {
	g.t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(g.folder, "admin.sock"))
	}}}
	response, err := client.Get("http://admin" + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return text
}

// ask sends a request; a header Host replaces that of the URL.
func ask(client *http.Client, url string, headers ...string) (answer, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			request.Host = headers[i+1]
			continue
		}
		request.Header.Set(headers[i], headers[i+1])
	}
	return do(client, request)
}

func do(client *http.Client, request *http.Request) (answer, error) {
	response, err := client.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, err
	}
	a := answer{}
	if response.StatusCode == http.StatusOK {
		if err := json.Unmarshal(body, &a); err != nil {
			return answer{}, fmt.Errorf("%w: %s", err, body)
		}
	}
	a.Status, a.location, a.protocol = response.StatusCode, response.Header.Get("Location"), response.Proto
	if response.TLS != nil {
		a.shown = response.TLS.PeerCertificates[0].Subject.CommonName
	}
	return a, nil
}

// outcome is the server that answered, or else the status, with the target of a redirect.
func (a answer) outcome() string {
	return strings.TrimSpace(strings.Join([]string{map[bool]string{true: a.Server, false: fmt.Sprint(a.Status)}[a.Server != ""], a.location}, " "))
}

func mustPort(t *testing.T, l net.Listener) uint16 {
	t.Helper()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}
