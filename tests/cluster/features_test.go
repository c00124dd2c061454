package cluster_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster"
	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// features uses what a Kubernetes has, through the tools that users have.
func features(t *testing.T, c *cluster.Cluster) {
	ctx := t.Context()
	run(t, c.Kubectl(ctx, "apply", "-f", "testdata/web.yaml", "-f", "testdata/certificate.yaml"))
	run(t, c.Kubectl(ctx, "rollout", "status", "deployment/web", "--timeout=60s"))
	run(t, c.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "pod/client"))
	// The pods are ready before kube-proxy has heard of it, and until then it refuses connections.
	curl := func(args ...string) string {
		return run(t, c.Kubectl(ctx, append([]string{"exec", "client", "--", "curl", "-sS", "--max-time", "5", "--retry", "20", "--retry-connrefused", "--retry-delay", "1"}, args...)...))
	}
	jsonpath := func(object, path string) []string {
		return strings.Fields(run(t, c.Kubectl(ctx, "get", object, "-o", "jsonpath={"+path+"}")))
	}
	web := run(t, c.Kubectl(ctx, "get", "pods", "-l", "app=web", "-o", "jsonpath={.items[0].metadata.name}"))

	t.Run("pods and Services have both families", func(t *testing.T) {
		for object, path := range map[string]string{"pod/" + web: ".status.podIPs[*].ip", "service/web": ".spec.clusterIPs[*]"} {
			ips := jsonpath(object, path)
			if len(ips) != 2 || !strings.Contains(ips[1], ":") {
				t.Errorf("addresses of %s: %v", object, ips)
			}
			for _, ip := range ips {
				port := map[bool]string{true: "80", false: "8080"}[object == "service/web"]
				want(t, curl("http://"+net.JoinHostPort(ip, port)), web)
			}
		}
	})
	t.Run("DNS", func(t *testing.T) {
		want(t, curl("-4", "http://web"), web)
		want(t, curl("-6", "http://web.default.svc.cluster.local"), web)
		out, err := c.Kubectl(ctx, "exec", "client", "--", "nslookup", "nonesuch.example.org").CombinedOutput()
		if err == nil || !strings.Contains(string(out), "NXDOMAIN") {
			t.Errorf("a name outside of the cluster: %v\n%s", err, out)
		}
	})
	t.Run("a pod reaches itself through its Service", func(t *testing.T) {
		want(t, run(t, c.Kubectl(ctx, "exec", web, "--", "curl", "-sS", "--max-time", "5", "http://web")), web)
	})
	t.Run("user namespaces mount a proc of their own", func(t *testing.T) {
		root, err := c.Root()
		must(t, err)
		process := filepath.Dir(root) + "/ns/"
		// As a runtime does for a pod with hostUsers: false.
		run(t, exec.CommandContext(ctx, "nsenter", "--mount="+process+"mnt", "--pid="+process+"pid",
			"unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "mount", "-t", "proc", "proc", "/mnt"))
	})
	t.Run("logs", func(t *testing.T) { want(t, run(t, c.Kubectl(ctx, "logs", web)), "serving") })
	t.Run("port-forward", func(t *testing.T) { want(t, get(t, "http://"+forward(t, c, web)), web) })
	t.Run("load balancer from the machine", func(t *testing.T) {
		for _, host := range balanced(t, c) {
			want(t, get(t, "http://"+host), web)
		}
	})
	t.Run("host port", func(t *testing.T) {
		want(t, get(t, "http://"+net.JoinHostPort(c.NodeV4().Addr().String(), "18080")), web)
	})
	t.Run("pushed image", func(t *testing.T) {
		run(t, exec.CommandContext(ctx, c.Bin("crane"), "copy", c.MachineRegistry()+"/curl", c.MachineRegistry()+"/mine:1"))
		run(t, c.Kubectl(ctx, "run", "mine", "--image=localhost:5000/mine:1", "--restart=Never", "--command", "--", "echo", "mine runs"))
		run(t, c.Kubectl(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/mine"))
		want(t, run(t, c.Kubectl(ctx, "logs", "mine")), "mine runs")
	})
	t.Run("cert-manager", func(t *testing.T) {
		run(t, c.Kubectl(ctx, "wait", "--for=condition=Ready", "--timeout=60s", "certificate/own"))
		run(t, c.Kubectl(ctx, "wait", "--for=jsonpath={.webhooks[0].clientConfig.caBundle}", "--timeout=60s", "validatingwebhookconfiguration/own"))
	})
	t.Run("Envoy", func(t *testing.T) {
		run(t, c.Kubectl(ctx, "run", "envoy", "--image=localhost:5000/envoy:v1.40.0", "--restart=Never", "--", "--version"))
		run(t, c.Kubectl(ctx, "wait", "--for=jsonpath={.status.phase}=Succeeded", "--timeout=60s", "pod/envoy"))
		want(t, run(t, c.Kubectl(ctx, "logs", "envoy")), "1.40.0")
	})
}

// balanced waits for the load balancer addresses of Service web, as hosts of a
// URL, IPv4 first.
func balanced(t *testing.T, c *cluster.Cluster) []string {
	t.Helper()
	run(t, c.Kubectl(t.Context(), "wait", "--for=jsonpath={.status.loadBalancer.ingress[1].ip}", "--timeout=20s", "service/web"))
	ips := strings.Fields(run(t, c.Kubectl(t.Context(), "get", "service/web", "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")))
	if len(ips) != 2 {
		t.Fatalf("load balancer addresses: %v", ips)
	}
	return []string{ips[0], "[" + ips[1] + "]"}
}

// forward forwards a port of the machine to port 8080 of a pod until the test ends.
func forward(t *testing.T, c *cluster.Cluster, pod string) string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := c.Kubectl(ctx, "port-forward", pod, ":8080")
	output, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	t.Cleanup(func() {
		cancel()
		_ = cmd.Wait() // killed by cancel
	})
	line, err := bufio.NewReader(output).ReadString('\n')
	must(t, err)
	address := regexp.MustCompile(`127\.0\.0\.1:\d+`).FindString(line)
	if address == "" {
		t.Fatalf("kubectl port-forward said %q", line)
	}
	return address
}

// get asks a server in the cluster from the machine.
func get(t *testing.T, url string) string {
	t.Helper()
	body, err := fetch(url)
	if err != nil {
		t.Error(err)
	}
	return body
}

func fetch(url string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, response.Status)
	}
	return string(body), err
}

func want(t *testing.T, got, part string) {
	t.Helper()
	if !strings.Contains(got, part) {
		t.Errorf("got %q, want it to contain %q", got, part)
	}
}

// run runs a command and returns its standard output, without spaces at its ends.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func status(t *testing.T, c *cluster.Cluster) []node.Status {
	t.Helper()
	list, err := c.Status(t.Context())
	must(t, err)
	return list
}

// find is the status of one component.
func find(t *testing.T, c *cluster.Cluster, name string) node.Status {
	t.Helper()
	for _, s := range status(t, c) {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("no component %s", name)
	return node.Status{}
}
