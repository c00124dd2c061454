package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The agent is about nodes: what belongs to the webhook or to the control plane
// is none of its business.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/kubernetes-traffic-manager/traffic/"
	for dep := range strings.FieldsSeq(string(out)) {
		for _, forbidden := range []string{module + "webhook", module + "xds", "github.com/envoyproxy/", "google.golang.org/grpc", "sigs.k8s.io/controller-runtime"} {
			if strings.HasPrefix(dep, forbidden) {
				t.Errorf("traffic-node links %s", dep)
			}
		}
	}
	if !strings.Contains(string(out), module+"cni-plugin/node\n") {
		t.Errorf("go list found only %s", out)
	}
}
