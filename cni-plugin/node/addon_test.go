package node

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"k8s.io/client-go/tools/events"
)

// What Cilium's ConfigMap has to say for a pod's connections to be balanced inside
// connect, of this version and of those before.
func TestCiliumBalances(t *testing.T) {
	for _, c := range []struct {
		config map[string]string
		want   string
	}{
		{nil, ""},
		{map[string]string{"kube-proxy-replacement": "false", "bpf-lb-sock": "false"}, ""},
		{map[string]string{"kube-proxy-replacement": "disabled"}, ""},
		{map[string]string{"kube-proxy-replacement": "partial"}, ""},
		{map[string]string{"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true"}, ""},
		{map[string]string{"bpf-lb-sock": "true", "bpf-lb-sock-hostns-only": "true"}, ""},
		{map[string]string{"kube-proxy-replacement": "true"}, "kube-proxy-replacement=true and bpf-lb-sock-hostns-only=false"},
		{map[string]string{"kube-proxy-replacement": "true", "bpf-lb-sock": "false", "bpf-lb-sock-hostns-only": "false"}, "kube-proxy-replacement=true and bpf-lb-sock-hostns-only=false"},
		{map[string]string{"kube-proxy-replacement": "strict"}, "kube-proxy-replacement=strict and bpf-lb-sock-hostns-only=false"},
		{map[string]string{"kube-proxy-replacement": "false", "bpf-lb-sock": "true"}, "bpf-lb-sock=true and bpf-lb-sock-hostns-only=false"},
		{map[string]string{"kube-proxy-replacement": "partial", "enable-host-reachable-services": "true"}, "enable-host-reachable-services=true and bpf-lb-sock-hostns-only=false"},
	} {
		if got := ciliumBalances(c.config); got != c.want {
			t.Errorf("%v: %q, want %q", c.config, got, c.want)
		}
	}
}

// Which FelixConfigurations have Calico balance inside connect, which it does by
// default once it is in eBPF mode; and what is said of those that cannot be read.
func TestCalicoBalances(t *testing.T) {
	for text, want := range map[string]string{
		`{}`:          "",
		`{"spec":{}}`: "",
		`{"spec":{"bpfConnectTimeLoadBalancing":"TCP"}}`:                          "", // not in eBPF mode
		`{"spec":{"bpfEnabled":false,"bpfConnectTimeLoadBalancing":"Enabled"}}`:   "",
		`{"spec":{"bpfEnabled":true,"bpfConnectTimeLoadBalancing":"Disabled"}}`:   "",
		`{"spec":{"bpfEnabled":true,"bpfConnectTimeLoadBalancingEnabled":false}}`: "",
		`{"spec":{"bpfEnabled":true}}`:                                            "bpfEnabled=true and bpfConnectTimeLoadBalancing=TCP",
		`{"spec":{"bpfEnabled":true,"bpfConnectTimeLoadBalancing":"TCP"}}`:        "bpfEnabled=true and bpfConnectTimeLoadBalancing=TCP",
		`{"spec":{"bpfEnabled":true,"bpfConnectTimeLoadBalancing":"Enabled"}}`:    "bpfEnabled=true and bpfConnectTimeLoadBalancing=Enabled",
		`{"spec":{"bpfEnabled":true,"bpfConnectTimeLoadBalancingEnabled":true}}`:  "bpfEnabled=true and bpfConnectTimeLoadBalancing=TCP",
		`{"spec":{"bpfEnabled":"true"}}`:                                          "error",
		`<html>`:                                                                  "error",
	} {
		dir := t.TempDir()
		write(t, dir+"/10-calico.conflist", []byte(`{"cniVersion":"1.0.0","name":"k8s-pod-network","plugins":[{"type":"calico"},{"type":"portmap"}]}`), 0o644)
		r := addOnReader{confDir: dir, get: func(_ context.Context, path string) ([]byte, error) {
			if path != "/apis/crd.projectcalico.org/v1/felixconfigurations/default" {
				t.Errorf("asks for %s", path)
			}
			return []byte(text), nil
		}}
		got, err := r.read(context.Background())
		if (err != nil) != (want == "error") || err == nil && (got.has != want || got.name != "Calico") {
			t.Errorf("%s: %+v, %v, want %q", text, got, err, want)
		}
	}
}

// Where there is no Cilium and no Calico the API server is asked for nothing: the
// agent has no business with other configurations.
func TestAsksOnlyOnNodesOfTheAddOn(t *testing.T) {
	for file, want := range map[string]string{
		`{"name":"a","plugins":[{"type":"bridge"},{"type":"portmap"}]}`:            "",
		`{"name":"a","plugins":[{"type":"cilium-cni"}]}`:                           "/api/v1/namespaces/network/configmaps/cilium-config",
		`{"name":"a","plugins":[{"type":"aws-cni"},{"type":"cilium-cni"}]}`:        "/api/v1/namespaces/network/configmaps/cilium-config",
		`{"name":"a","plugins":[{"type":"calico"},{"type":"bandwidth"}]}`:          "/apis/crd.projectcalico.org/v1/felixconfigurations/default",
		`{"name":"a","plugins":[{"type":"bridge","comment":"cilium-cni calico"}]}`: "",
	} {
		n := newNode(t)
		n.conflist("10-a.conflist", strings.Replace(file, "{", `{"cniVersion":"1.0.0",`, 1))
		asked := ""
		get := func(_ context.Context, path string) ([]byte, error) { asked += path; return []byte(`{}`), nil }
		if _, err := (addOnReader{confDir: n.config.ConfDir, ciliumNamespace: "network", get: get}).read(context.Background()); err != nil || asked != want {
			t.Errorf("%s: asks for %q, %v", file, asked, err)
		}
		asked = ""
		if _, err := (addOnReader{confDir: n.config.ConfDir, get: get}).read(context.Background()); err != nil || strings.Contains(asked, "cilium") {
			t.Errorf("%s: without a namespace asks for %q, %v", file, asked, err)
		}
	}
}

// A node says that its add-on will send pods past their Envoys before the first
// injected pod is there to try, and stops when the setting is changed. An API server
// that refuses the answer keeps nothing from working.
func TestNamesTheAddOn(t *testing.T) {
	n := newNode(t)
	n.config.VerifyInterval = 20 * time.Millisecond
	n.conflist("05-cilium.conflist", strings.Replace(bridge, "bridge", "cilium-cni", 1))
	var hostOnly atomic.Value
	hostOnly.Store("false")
	n.begin(func(a *Agent) {
		a.addOns = addOnReader{confDir: n.config.ConfDir, ciliumNamespace: "kube-system", get: func(context.Context, string) ([]byte, error) {
			if hostOnly.Load() == "" {
				return nil, errors.New("configmaps \"cilium-config\" is forbidden")
			}
			return []byte(`{"data":{"kube-proxy-replacement":"true","bpf-lb-sock-hostns-only":"` + hostOnly.Load().(string) + `"}}`), nil
		}}
	})
	n.awaitEventOn("default", "node-1", reasonBypassed,
		`It is Cilium, whose ConfigMap kube-system/cilium-config has kube-proxy-replacement=true and bpf-lb-sock-hostns-only=false: set socketLB.hostNamespaceOnly=true`)
	n.awaitReady()
	const gauge = "traffic_node_rewritten_connections "
	n.await("counted", func() bool { return strings.Contains(n.get("/metrics"), gauge+"1") })
	hostOnly.Store("true")
	n.await("over", func() bool { return strings.Contains(n.get("/metrics"), gauge+"0") })
	hostOnly.Store("")
	n.awaitRedirected(n.runPod("web", injected))
}

// What happens in a pod counts, whatever is configured; the configuration names who
// does it.
func TestWhatHappensCounts(t *testing.T) {
	service, backend := netip.MustParseAddrPort("10.96.0.1:443"), netip.MustParseAddrPort("192.0.2.7:6443")
	balances := addOn{name: "Calico", where: "FelixConfiguration default", has: "bpfEnabled=true and bpfConnectTimeLoadBalancing=TCP", set: "this"}
	leavesAlone := addOn{name: "Calico", where: "FelixConfiguration default"}
	for name, c := range map[string]struct {
		by      addOn
		look    bool
		reached netip.AddrPort
		err     error
		want    string // of the log; empty for nothing
		gauge   string
	}{
		"configured and done":          {balances, true, backend, nil, "is sent to 192.0.2.7:6443 before its connection can be redirected: labels of Services do not act. It is Calico, whose FelixConfiguration default has bpfEnabled=true", "1"},
		"configured and not done":      {balances, true, service, nil, "", "0"},
		"configured, no pod to see it": {balances, false, backend, nil, "It is Calico", "1"},
		"configured, cannot be seen":   {balances, true, service, errors.New("net.ipv4.tcp_fastopen is 0"), "It is Calico", "1"},
		"done, configured otherwise":   {leavesAlone, true, backend, nil, "FelixConfiguration default of Calico says that it does: have its agents been restarted since?", "1"},
		"done by who knows":            {addOn{}, true, backend, nil, "Cilium does with socketLB.hostNamespaceOnly=true", "1"},
		"nothing known":                {addOn{}, false, backend, nil, "", "0"},
		"nothing done":                 {leavesAlone, true, service, nil, "", "0"},
	} {
		var log bytes.Buffer
		p := connectProbe{
			service: service, node: nodeReference("node-1"), reporter: reporter{events.NewFakeRecorder(10)}, metrics: newMetrics(),
			log:    slog.New(slog.NewTextHandler(&log, nil)),
			target: func(ns.NetNS, netip.AddrPort) (netip.AddrPort, error) { return c.reached, c.err },
		}
		p.addOn.Store(&c.by)
		for range 2 {
			p.due = true
			if c.look {
				p.look(nil)
			}
			p.conclude()
		}
		p.due = true // the last injected pod has gone: what was seen in it stands
		p.conclude()
		if !strings.Contains(log.String(), c.want) || (log.Len() == 0) != (c.want == "") || strings.Count(log.String(), "\n") > 1 {
			t.Errorf("%s: says %q, want %q once", name, log.String(), c.want)
		}
		if got := gaugeOf(t, p.metrics); got != c.gauge {
			t.Errorf("%s: the metric is %s, want %s", name, got, c.gauge)
		}
	}
}

func gaugeOf(t *testing.T, m *metrics) string {
	t.Helper()
	a := &Agent{metrics: m}
	n := &testNode{T: t, agent: a}
	_, text, _ := strings.Cut(n.get("/metrics"), "\ntraffic_node_rewritten_connections ")
	value, _, _ := strings.Cut(text, "\n")
	return value
}
