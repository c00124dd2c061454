package main

import (
	"os/exec"
	"strings"
	"testing"
)

// The plugin starts once per pod on every node: each package it links costs
// every pod's start. What is not here needs a reason.
var allowed = []string{
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/cmd/traffic-cni",
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin",
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply",
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect",
	"github.com/containernetworking/cni/pkg/",
	"github.com/containernetworking/plugins/pkg/ns",
	"github.com/coreos/go-iptables/iptables",
	"github.com/google/nftables",
	"github.com/mdlayher/netlink",
	"github.com/mdlayher/socket",
	"github.com/vishvananda/netns",
	"golang.org/x/net/bpf",
	"golang.org/x/sync/errgroup",
	"golang.org/x/sys/unix",
}

func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if len(deps) < len(allowed) {
		t.Fatalf("go list found only %v", deps)
	}
	for _, dep := range deps {
		if !isAllowed(dep) {
			t.Errorf("traffic-cni links %s", dep)
		}
	}
}

func isAllowed(dep string) bool {
	for _, prefix := range allowed {
		if strings.HasPrefix(dep, prefix) {
			return true
		}
	}
	return false
}
