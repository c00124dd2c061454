package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// enforcePolicies has the node hold pods to NetworkPolicies from now on, until the test ends.
func (s *site) enforcePolicies(t *testing.T) {
	t.Helper()
	program := filepath.Join(t.TempDir(), "policies")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./tests/cluster/cmd/policies")
	build.Dir = "../.."
	output(t, build)
	enforcer := exec.CommandContext(t.Context(), "nsenter", "--net="+s.nodeNetwork(),
		program, "-kubeconfig", s.cluster.Kubeconfig(), "-node", s.cluster.Name)
	enforcer.Stderr = t.Output()
	if err := enforcer.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := enforcer.Wait(); t.Context().Err() == nil { // which kills it
			t.Errorf("nobody enforces the policies any more: %v", err)
		}
	}()
	t.Cleanup(func() { <-ended })
}

// nodeNetwork is the node's network namespace.
func (s *site) nodeNetwork() string { return filepath.Join(filepath.Dir(s.node), "ns/net") }

// restricted checks that the policies, under which all of this test is, keep out whoever has no business with a program.
func restricted(t *testing.T, s *site) {
	open, closed := map[string]string{}, map[string]string{}
	for _, pod := range s.pods(t) {
		at := func(port int, path string) string { return fmt.Sprintf("http://%s:%d%s", pod.Status.PodIP, port, path) }
		switch name := pod.Labels["app.kubernetes.io/name"]; name {
		case "traffic-control", "traffic-webhook":
			closed[name] = at(8080, "/readyz")
		case "traffic-prometheus":
			closed[name] = at(metricsPort, "/-/ready")
		case "traffic-ingress":
			closed[name], open[name] = at(statsPort, "/ready"), at(8080, "/")
		case "traffic-zipkin":
			open[name] = at(tracesPort, "/health")
		}
	}
	if len(closed) != 4 || len(open) != 2 {
		t.Fatalf("found %v and %v", closed, open)
	}
	for name, url := range open {
		if got := s.status(t, "shop", "plain", url); got == "000" {
			t.Errorf("%s does not answer at %s", name, url)
		}
	}
	var urls []string
	for name, url := range closed {
		urls = append(urls, "-o", "/dev/null", url)
		answer, err := get(t.Context(), s.nodeNetwork(), url, "")
		if err != nil {
			t.Errorf("the node itself gets no answer from %s, so that nobody else could: %v", name, err)
			continue
		}
		answer.Body.Close()
	}
	command := []string{"exec", "-n", "shop", "plain", "-c", "app", "--", "curl", "-sZ", "--connect-timeout", "2", "-w", "%{url} %{http_code}\n"}
	curl := s.cluster.Kubectl(t.Context(), append(command, urls...)...)
	answers, _ := curl.Output() // curl fails as it should
	for name, url := range closed {
		if !strings.Contains(string(answers), url+" 000\n") {
			t.Errorf("a pod that has no business with %s gets an answer at %s, or was not heard of:\n%s", name, url, answers)
		}
	}
}
