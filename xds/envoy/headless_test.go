package envoy

import (
	"slices"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// TestClusterNames: they are what users ask Prometheus for, so no two ports may share one, and none may have a second dot.
func TestClusterNames(t *testing.T) {
	tests := []struct {
		kind label.Kind
		name string
		want string
	}{
		{label.Service, "web", "80|default|web.outbound"},
		{label.Pod, "web", "80|default|pod/web.outbound"},
		{label.Pod, "web-1.a", "80|default|pod/web-1_a.outbound"},
		{label.Pod, "web-1-a", "80|default|pod/web-1-a.outbound"},
	}
	for _, test := range tests {
		p := mesh.Port{Owner: mesh.Object{Kind: string(test.kind), Namespace: "default", Name: test.name}, Number: 80}
		if got := clusterName(p); got != test.want {
			t.Errorf("%s: %s, want %s", p.Owner, got, test.want)
		}
	}
}

// TestClusterDomain: a cluster with a domain of its own has other names.
func TestClusterDomain(t *testing.T) {
	for domain, want := range map[string]string{"": "db.default.svc.cluster.local", "example.org": "db.default.svc.example.org"} {
		translator, err := NewTranslator(Config{ClusterDomain: domain})
		if err != nil {
			t.Fatal(err)
		}
		route, err := translator.route(mesh.Port{Owner: object("db"), Number: 80, Protocol: label.HTTP, Headless: true})
		if err != nil {
			t.Fatal(err)
		}
		if domains := route.GetVirtualHosts()[0].GetDomains(); !slices.Contains(domains, want) || !slices.Contains(domains, want+".") {
			t.Errorf("domain %q: %v", domain, domains)
		}
	}
}

// TestDefaultHost: HTTP/1.0 without a Host to one pod of a headless Service is not balanced over all of them, whatever the
// Service and the cluster are called; to other Services it names the Service.
func TestDefaultHost(t *testing.T) {
	for _, service := range []mesh.Object{
		object("db"),
		{Kind: "Service", Namespace: "svc", Name: "pod"},
		{Kind: "Service", Namespace: "pod", Name: "svc"},
		{Kind: "Service", Namespace: "pod", Name: "pod"},
	} {
		for _, domain := range []string{"", "pod", "example.org"} {
			translator, err := NewTranslator(Config{ClusterDomain: domain})
			if err != nil {
				t.Fatal(err)
			}
			p := mesh.Port{Owner: service, Number: 80, Protocol: label.HTTP, Headless: true}
			route, err := translator.route(p)
			if err != nil {
				t.Fatal(err)
			}
			host := translator.connectionManager(p).GetHttpProtocolOptions().GetDefaultHostForHttp_10()
			for _, v := range route.GetVirtualHosts() {
				if slices.Contains(v.GetDomains(), host) {
					t.Errorf("%s, domain %q: %q is a domain of %s", service, domain, host, v.GetName())
				}
			}
			p.Headless = false
			if host := translator.connectionManager(p).GetHttpProtocolOptions().GetDefaultHostForHttp_10(); host != service.Name+"."+service.Namespace {
				t.Errorf("%s: %q", service, host)
			}
		}
	}
}
