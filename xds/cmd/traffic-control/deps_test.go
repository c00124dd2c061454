package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestDependencies keeps imports pointing one way, and the pure packages free of clients.
func TestDependencies(t *testing.T) {
	const module = "github.com/kubernetes-traffic-manager/traffic/"
	client := []string{"k8s.io/client-go", "google.golang.org/grpc"}
	for pkg, rule := range map[string]struct {
		ours      []string // what it may import, however indirectly
		forbidden []string
	}{
		"xds/label":   {forbidden: []string{"k8s.io/", "github.com/", "google.golang.org/"}},
		"xds/mesh":    {ours: []string{"xds/label"}, forbidden: append(client, "github.com/envoyproxy")},
		"xds/ingress": {ours: []string{"xds/label", "xds/mesh"}, forbidden: append(client, "github.com/envoyproxy")},
		"xds/envoy":   {ours: []string{"xds/label", "xds/mesh", "xds/ingress"}, forbidden: []string{"k8s.io/client-go"}},
		"xds/watch":   {ours: []string{"xds/label", "xds/mesh", "xds/ingress", "xds/envoy"}},
		"xds/serve":   {ours: []string{"xds/label", "xds/mesh", "xds/ingress", "xds/envoy"}},
		"xds/report":  {ours: []string{"xds/label", "xds/mesh"}, forbidden: []string{"github.com/envoyproxy"}},
		// It waits in each pod of the gateway, and must be small.
		"xds/cmd/traffic-drain": {ours: []string{"xds/drain"}, forbidden: []string{"k8s.io/", "github.com/", "google.golang.org/"}},
		"xds/cmd/traffic-control": {
			ours: []string{"xds/label", "xds/mesh", "xds/ingress", "xds/envoy", "xds/watch", "xds/serve", "xds/report"},
			// With a template, which may call any method by its name, the linker keeps every method of every type.
			forbidden: []string{"net/http/pprof", "text/template", "html/template"},
		},
	} {
		out, err := exec.Command("go", "list", "-deps", "-tags", "grpcnotrace", module+pkg).Output()
		if err != nil {
			t.Fatalf("go list %s: %v", pkg, err)
		}
		deps := strings.Fields(string(out))
		if !slices.Contains(deps, module+pkg) {
			t.Fatalf("go list %s: %v", pkg, deps)
		}
		for _, dep := range deps {
			if name, own := strings.CutPrefix(dep, module); own && name != pkg && !slices.Contains(rule.ours, name) {
				t.Errorf("%s imports %s", pkg, name)
			}
			for _, forbidden := range rule.forbidden {
				if strings.HasPrefix(dep, forbidden) && !strings.HasPrefix(dep, module) {
					t.Errorf("%s links %s", pkg, dep)
				}
			}
		}
	}
}
