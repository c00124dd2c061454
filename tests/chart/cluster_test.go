package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const kubectl = root + "/.local/bin/kubectl"

// ask runs kubectl against the local cluster that make up starts, or the one that CLUSTER names, where the chart is installed, with
// input, and returns all that it prints.
func ask(t *testing.T, input string, arguments ...string) (string, error) {
	t.Helper()
	kubeconfig := filepath.Join(root, ".local", os.Getenv("CLUSTER"), "kubeconfig")
	if _, err := os.Stat(kubeconfig); err != nil {
		t.Fatalf("the local cluster is not up, make up starts it: %v", err)
	}
	command := exec.Command(kubectl, append([]string{"--kubeconfig", kubeconfig}, arguments...)...)
	command.Stdin = strings.NewReader(input)
	var out bytes.Buffer
	command.Stdout, command.Stderr = &out, &out
	err := command.Run()
	return out.String(), err
}

// The API server is the judge of an upgrade from the installed chart to each story, as helm makes it.
func TestAPIServerAcceptsEveryStory(t *testing.T) {
	// In a namespace without a release: some fields of a Service cannot change, and a release does not change them.
	const fresh = "traffic-stories"
	if out, err := ask(t, "", "create", "namespace", fresh); err != nil {
		t.Fatalf("kubectl create: %v\n%s", err, out)
	}
	t.Cleanup(func() {
		if out, err := ask(t, "", "delete", "namespace", fresh, "--wait=false"); err != nil {
			t.Errorf("kubectl delete: %v\n%s", err, out)
		}
	})
	accept := func(name string, arguments ...string) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out, err := ask(t, withoutOperators(template(t, append(arguments, "-n", fresh)...)), "apply", "--server-side", "--force-conflicts", "--field-manager=helm", "--dry-run=server", "--validate=strict", "-f", "-")
			if err != nil {
				t.Errorf("kubectl apply: %v\n%s", err, out)
			}
			if strings.Contains(out, "Warning:") && !strings.Contains(out, "would violate PodSecurity") {
				t.Errorf("the API server warns:\n%s", out)
			}
		})
	}
	accept("default")
	for _, story := range stories(t) {
		accept(story.name, "-f", valuesFile(t, story.values))
	}
}

// withoutOperators leaves out the custom resources of the Prometheus operator, which the cluster does not know; tests of
// their own read them as the operator's types.
func withoutOperators(rendered string) string {
	var kept []string
	for _, document := range documents(rendered) {
		if !strings.Contains(document.text, "apiVersion: monitoring.coreos.com/") {
			kept = append(kept, document.text)
		}
	}
	return strings.Join(kept, "\n---\n") + "\n"
}

// An operator who restricts the release's namespace must hear of the node agent and of nothing else.
func TestRestrictingTheNamespaceWarnsOfTheNodeAgentAlone(t *testing.T) {
	out, err := ask(t, "", "label", "--dry-run=server", "--overwrite", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
	if err != nil {
		t.Fatalf("kubectl label: %v\n%s", err, out)
	}
	var named []string
	for _, match := range regexp.MustCompile(`(?m)^Warning: (traffic-[a-z]+)-`).FindAllStringSubmatch(out, -1) {
		named = append(named, match[1])
	}
	if !slices.Equal(named, []string{"traffic-node"}) {
		t.Errorf("it warns of %v, want traffic-node alone:\n%s", named, out)
	}
}

// What the programs may do is what the API server says, whatever other roles there are.
func TestAPIServerGrantsNoMore(t *testing.T) {
	const yes, no = "yes", "no"
	for _, test := range []struct {
		program, verb, resource, want string
	}{
		{"traffic-control", "watch", "pods", yes},
		{"traffic-control", "list", "endpointslices.discovery.k8s.io", yes},
		{"traffic-control", "watch", "namespaces", yes},
		{"traffic-control", "list", "cronjobs.batch", yes},
		{"traffic-control", "create", "tokenreviews.authentication.k8s.io", yes},
		{"traffic-control", "create", "events.events.k8s.io", yes},
		{"traffic-control", "patch", "events.events.k8s.io", no},
		{"traffic-control", "patch", "pods", no},
		{"traffic-control", "update", "services", no},
		{"traffic-control", "list", "secrets", yes}, // for the gateway
		{"traffic-control", "get", "secrets", no},
		{"traffic-control", "watch", "ingresses.networking.k8s.io", yes},
		{"traffic-control", "patch", "ingresses.networking.k8s.io/status", yes},
		{"traffic-control", "patch", "ingresses.networking.k8s.io", no},
		{"traffic-ingress", "list", "pods", no},
		{"traffic-ingress", "get", "secrets", no},
		{"traffic-control", "create", "serviceaccounts/token", no},
		{"traffic-node", "watch", "pods", yes},
		{"traffic-node", "delete", "pods", no},
		{"traffic-node", "patch", "nodes", no},
		{"traffic-node", "list", "services", no},
		{"traffic-node", "list", "secrets", no},
		{"traffic-node", "get", "configmaps", no}, // but for one in kube-system
		{"traffic-prometheus", "watch", "pods", yes},
		{"traffic-prometheus", "get", "pods/log", no},
		{"traffic-prometheus", "list", "nodes", no},
		{"traffic-prometheus", "list", "secrets", no},
		{"traffic-webhook", "list", "pods", no},
		{"traffic-webhook", "get", "secrets", no},
	} {
		account := "system:serviceaccount:" + namespace + ":" + test.program
		// can-i exits with 1 when the answer is no.
		resource, subresource, _ := strings.Cut(test.resource, "/") // kubectl would take it for a name
		out, _ := ask(t, "", "auth", "can-i", test.verb, resource, "--subresource", subresource, "--all-namespaces", "--as", account)
		lines := strings.Fields(out)
		if len(lines) == 0 || lines[len(lines)-1] != test.want {
			t.Errorf("may %s %s %s? %s, want %s", test.program, test.verb, test.resource, out, test.want)
		}
	}
}
