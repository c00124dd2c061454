package e2e

import (
	"context"
	"flag"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

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

// during sends requests while something happens, and some seconds before and after.
func (g *gatewayLoad) during(t *testing.T, happen func()) {
	t.Helper()
	const margin = 3 * time.Second
	loads := sender{url: "http://" + g.address + "/", host: gatewayHost, kept: keptRate, fresh: newRate}.start()
	time.Sleep(margin)
	happen()
	time.Sleep(margin)
	for _, l := range loads {
		l.stop(t)
	}
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
