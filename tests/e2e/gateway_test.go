package e2e

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	vegeta "github.com/tsenart/vegeta/v12/lib"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
)

const (
	gatewayNamespace = "gateway-restarts"
	gatewayHost      = "restarts.example.com"
	// keptRate and newRate are requests a second over connections that are kept, and over one new connection each.
	keptRate, newRate = 750, 250
)

var away = flag.Duration("away", 20*time.Second, "for how long a gateway is without control plane")

// TestGatewayRestarts sends the gateway 1,000 requests a second, from outside the cluster, while its parts are replaced:
// every one must be answered by the server behind it.
func TestGatewayRestarts(t *testing.T) {
	g := newGatewayLoad(t)
	t.Run("gateway", func(t *testing.T) {
		g.during(t, func() {
			g.kubectl(t, "rollout", "restart", "-n", "traffic-system", "deployment/traffic-ingress")
			g.kubectl(t, "rollout", "status", "-n", "traffic-system", "deployment/traffic-ingress", "--timeout=2m")
			g.gone(t, "traffic-ingress", 2)
		})
	})
	t.Run("control plane", func(t *testing.T) {
		g.during(t, func() {
			g.kubectl(t, "rollout", "restart", "-n", "traffic-system", "deployment/traffic-control")
			g.kubectl(t, "rollout", "status", "-n", "traffic-system", "deployment/traffic-control", "--timeout=2m")
			g.gone(t, "traffic-control", 2)
		})
	})
	t.Run("control plane away, gateway restarted", func(t *testing.T) {
		g.during(t, func() {
			g.kubectl(t, "scale", "-n", "traffic-system", "deployment/traffic-control", "--replicas=0")
			t.Cleanup(func() {
				g.kubectl(t, "scale", "-n", "traffic-system", "deployment/traffic-control", "--replicas=2")
			})
			g.gone(t, "traffic-control", 0)
			since := time.Now()
			g.kubectl(t, "patch", "ingress", "-n", gatewayNamespace, "left", "--type=merge", "-p", `{"spec":{"ingressClassName":"others"}}`)
			// The new replica waits for its first configuration: those that have one go on.
			g.kubectl(t, "rollout", "restart", "-n", "traffic-system", "deployment/traffic-ingress")
			time.Sleep(time.Until(since.Add(*away)))
			g.kubectl(t, "scale", "-n", "traffic-system", "deployment/traffic-control", "--replicas=2")
			g.kubectl(t, "rollout", "status", "-n", "traffic-system", "deployment/traffic-ingress", "--timeout=2m")
			g.gone(t, "traffic-ingress", 2)
		})
		eventually(t, "", func() string { return g.shown(t, "left") })
		if g.shown(t, "echo") == "" {
			t.Error("the Ingress that stayed shows no address")
		}
	})
}

// shown is where an Ingress is served, as its status says.
func (g *gatewayLoad) shown(t *testing.T, ingress string) string {
	t.Helper()
	return g.kubectl(t, "get", "ingress", "-n", gatewayNamespace, ingress, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
}

// A gatewayLoad is where requests go, and who sends them.
type gatewayLoad struct {
	cluster *cluster.Cluster
	client  kubernetes.Interface
	address string
}

func newGatewayLoad(t *testing.T) *gatewayLoad {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	g := &gatewayLoad{}
	if g.cluster, err = Cluster(root); err != nil {
		t.Fatal(err)
	}
	if g.client, err = g.cluster.Client(); err != nil {
		t.Fatal(err)
	}
	g.kubectl(t, "create", "namespace", gatewayNamespace)
	t.Cleanup(func() {
		_ = g.cluster.Kubectl(context.WithoutCancel(t.Context()), "delete", "namespace", gatewayNamespace, "--wait=false").Run()
	})
	apply := g.cluster.Kubectl(t.Context(), "apply", "-n", gatewayNamespace, "-f", "-")
	apply.Stdin = strings.NewReader(gatewayObjects)
	output(t, apply)
	g.kubectl(t, "rollout", "status", "-n", gatewayNamespace, "deployment/echo", "--timeout=2m")
	nodes := strings.Fields(g.kubectl(t, "get", "nodes", "-o", `jsonpath={.items[0].status.addresses[?(@.type=="InternalIP")].address}`))
	port := g.kubectl(t, "get", "service", "-n", "traffic-system", "traffic-ingress", "-o", `jsonpath={.spec.ports[?(@.name=="http")].nodePort}`)
	g.address = net.JoinHostPort(nodes[0], port)
	eventually(t, "200", func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+g.address+"/", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		request.Host = gatewayHost
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err.Error()
		}
		response.Body.Close()
		return fmt.Sprint(response.StatusCode)
	})
	return g
}

func (g *gatewayLoad) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return output(t, g.cluster.Kubectl(context.WithoutCancel(t.Context()), args...))
}

// gone waits until no pod of a program is left but so many that are ready. One that drains may take a minute and a half.
func (g *gatewayLoad) gone(t *testing.T, program string, but int) {
	t.Helper()
	var ready, all int
	for deadline := time.Now().Add(3 * time.Minute); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		pods, err := g.client.CoreV1().Pods("traffic-system").List(t.Context(), metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=" + program})
		if err != nil {
			t.Fatal(err)
		}
		ready, all = 0, len(pods.Items)
		for _, pod := range pods.Items {
			if pod.Status.Phase == corev1.PodRunning && isReady(&pod) {
				ready++
			}
		}
		if ready == but && all == but {
			return
		}
	}
	t.Fatalf("%d of %d pods of %s are ready, want %d", ready, all, program, but)
}

// silence is how long a client keeps a connection that it does not use, as pools of clients do: a gateway that drains closes
// those that were silent for longer, and no server can close one without the risk that a request is on its way, RFC 9112
// section 9.5.
const silence = 20 * time.Second

// during sends requests while something happens, and some seconds before and after.
func (g *gatewayLoad) during(t *testing.T, happen func()) {
	t.Helper()
	const margin = 3 * time.Second
	kept := g.attack(keptRate, vegeta.NewAttacker(vegeta.Client(&http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 100, IdleConnTimeout: silence},
	})))
	fresh := g.attack(newRate, vegeta.NewAttacker(vegeta.Client(&http.Client{
		Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true},
	})))
	time.Sleep(margin)
	happen()
	time.Sleep(margin)
	for name, load := range map[string]*load{"kept connections": kept, "new connections": fresh} {
		metrics := load.stop()
		t.Logf("%s: %d requests, %.0f a second, %v, p99 %v, at most %v", name, metrics.Requests, metrics.Rate, metrics.StatusCodes,
			metrics.Latencies.P99.Round(time.Millisecond), metrics.Latencies.Max.Round(time.Millisecond))
		if metrics.StatusCodes["200"] != int(metrics.Requests) || metrics.Requests == 0 {
			t.Errorf("%s: of %d requests %v: %v", name, metrics.Requests, metrics.StatusCodes, metrics.Errors)
		}
	}
}

// A load is requests under way.
type load struct {
	attacker *vegeta.Attacker
	metrics  vegeta.Metrics
	done     sync.WaitGroup
}

// attack sends POST requests, which no client sends a second time by itself. One of ten takes a while, so that some are
// always on their way.
func (g *gatewayLoad) attack(rate int, attacker *vegeta.Attacker) *load {
	targets := make([]vegeta.Target, 10)
	for i := range targets {
		targets[i] = vegeta.Target{Method: http.MethodPost, URL: "http://" + g.address + "/", Body: []byte("x"), Header: http.Header{"Host": {gatewayHost}}}
	}
	targets[0].URL += "?delay=500ms"
	l := &load{attacker: attacker}
	l.done.Go(func() {
		for result := range attacker.Attack(vegeta.NewStaticTargeter(targets...), vegeta.Rate{Freq: rate, Per: time.Second}, 0, "") {
			l.metrics.Add(result)
		}
	})
	return l
}

func (l *load) stop() vegeta.Metrics {
	l.attacker.Stop()
	l.done.Wait()
	l.metrics.Close()
	return l.metrics
}

const gatewayObjects = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: echo}
spec:
  replicas: 2
  selector: {matchLabels: {app: echo}}
  template:
    metadata: {labels: {app: echo}}
    spec:
      containers: [{name: echo, image: localhost:5000/echo:0.1.0, imagePullPolicy: Always, readinessProbe: {httpGet: {path: /, port: 8080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec: {selector: {app: echo}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: echo}
spec:
  ingressClassName: traffic-manager
  rules: [{host: ` + gatewayHost + `, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: echo, port: {number: 80}}}}]}}]
---
# It goes to another class while no control plane runs.
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: left}
spec:
  ingressClassName: traffic-manager
  rules: [{host: left.example.com, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: echo, port: {number: 80}}}}]}}]
`
