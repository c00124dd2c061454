package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies keeps imports pointing one way, and the webhook small and apart from the other programs: it has no client
// of the Kubernetes API and no protos of Envoy.
func TestDependencies(t *testing.T) {
	const module = "github.com/kubernetes-traffic-manager/traffic/"
	leaves := []string{"cni-plugin/redirect", "webhook/patch", "xds/label"}
	for pkg, allowed := range map[string][]string{
		"webhook/patch":               nil,
		"webhook/inject":              leaves,
		"webhook/admit":               append([]string{"webhook/inject"}, leaves...),
		"webhook/cmd/traffic-webhook": append([]string{"webhook/admit", "webhook/inject"}, leaves...),
	} {
		out, err := exec.Command("go", "list", "-deps", module+pkg).Output()
		if err != nil {
			t.Fatal(err)
		}
		var ours []string
		for dep := range strings.FieldsSeq(string(out)) {
			if name, ok := strings.CutPrefix(dep, module); ok && name != pkg {
				ours = append(ours, name)
			}
			for _, forbidden := range []string{"github.com/envoyproxy/", "google.golang.org/grpc", "k8s.io/client-go/kubernetes/typed", "k8s.io/client-go/informers"} {
				if strings.HasPrefix(dep, forbidden) {
					t.Errorf("%s links %s", pkg, dep)
				}
			}
		}
		if !subset(ours, allowed) {
			t.Errorf("%s imports %q of ours, want at most %q", pkg, ours, allowed)
		}
	}
}

func subset(of, list []string) bool {
	return !slices.ContainsFunc(of, func(s string) bool { return !slices.Contains(list, s) })
}
