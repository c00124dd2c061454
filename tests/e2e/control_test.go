package e2e

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// A control is one pod of the installed control plane, reached from its node.
type control struct {
	client kubernetes.Interface
	pod    *corev1.Pod
	// network is the node's network namespace.
	network string
	// roots is the authority that signed the server's certificate, name the name in it.
	roots *x509.CertPool
	name  string
}

// reachControl finds a pod of traffic-control that is ready.
func reachControl(t *testing.T, client kubernetes.Interface) *control {
	t.Helper()
	c, err := Cluster("../..")
	if err != nil {
		t.Fatal(err)
	}
	root, err := c.Root()
	if err != nil {
		t.Fatal(err)
	}
	pods, err := client.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=traffic-control"})
	if err != nil {
		t.Fatal(err)
	}
	ready := slices.IndexFunc(pods.Items, func(pod corev1.Pod) bool { return isReady(&pod) })
	if ready < 0 {
		t.Fatalf("none of %d pods of traffic-control is ready", len(pods.Items))
	}
	pod := &pods.Items[ready]
	secret, err := client.CoreV1().Secrets(pod.Namespace).Get(t.Context(), "traffic-control-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data["ca.crt"]) {
		t.Fatal("Secret traffic-control-tls has no certificate in ca.crt")
	}
	return &control{
		client: client, pod: pod, roots: roots,
		network: filepath.Join(filepath.Dir(root), "ns/net"),
		name:    "traffic-control." + pod.Namespace + ".svc",
	}
}

// port is the container port of that name.
func (c *control) port(t *testing.T, name string) string {
	t.Helper()
	for _, p := range c.pod.Spec.Containers[0].Ports {
		if p.Name == name {
			return net.JoinHostPort(c.pod.Status.PodIP, strconv.Itoa(int(p.ContainerPort)))
		}
	}
	t.Fatalf("traffic-control has no port %s", name)
	return ""
}

// dial connects to a pod as a program on the node does.
func (c *control) dial(ctx context.Context, address string) (net.Conn, error) {
	return dialer(c.network)(ctx, "tcp", address)
}

// refusals is how many streams and connections the pod has refused, by reason.
func (c *control) refusals(t *testing.T) map[string]float64 {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return c.dial(ctx, address) },
	}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+c.port(t, "status")+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	refusals := map[string]float64{}
	for _, metric := range families["traffic_control_refused_streams_total"].GetMetric() {
		refusals[metric.GetLabel()[0].GetValue()] = metric.GetCounter().GetValue()
	}
	return refusals
}

// logged waits for the line about a refusal of a connection from address.
func (c *control) logged(t *testing.T, address, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stream, err := c.client.CoreV1().Pods(c.pod.Namespace).GetLogs(c.pod.Name, &corev1.PodLogOptions{Follow: true}).Stream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		var line struct{ Level, Address, Reason string }
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			t.Fatalf("log line %q: %v", lines.Text(), err)
		}
		if line.Address == address && line.Reason == reason {
			if line.Level != "WARN" {
				t.Errorf("logged at level %s", line.Level)
			}
			return
		}
	}
	t.Errorf("no log line says that %s was refused for %s: %v", address, reason, lines.Err())
}

// neverLogged checks that the log holds none of the tokens, in whole or in part.
func (c *control) neverLogged(t *testing.T, tokens []string) {
	t.Helper()
	log, err := c.client.CoreV1().Pods(c.pod.Namespace).GetLogs(c.pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range tokens {
		for part := range strings.SplitSeq(token, ".") {
			if bytes.Contains(log, []byte(part)) {
				t.Errorf("the log has %.10s..., a part of a token", part)
			}
		}
	}
}

// observed keeps the address of the last connection that a dialer made.
type observed struct {
	control *control
	mu      sync.Mutex
	address string
}

func (o *observed) dial(ctx context.Context, address string) (net.Conn, error) {
	conn, err := o.control.dial(ctx, address)
	if err != nil {
		return nil, fmt.Errorf("from the node: %w", err)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.address = conn.LocalAddr().String()
	return conn, nil
}

func (o *observed) local() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.address
}
