package label

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestOpened: the terminal that sets a label and the Event on the Service say the same of a port that stays shut.
func TestOpened(t *testing.T) {
	web, dns := ServicePort{Port: 80, Name: "web"}, ServicePort{Port: 53, Name: "dns", Protocol: "UDP"}
	tests := []struct {
		name   string
		spec   ServiceSpec
		open   []ServicePort
		reason string
	}{
		{name: "it has the port", spec: ServiceSpec{ClusterIP: "10.96.0.1", Ports: []ServicePort{dns, web}}, open: []ServicePort{web}},
		{name: "it has other ports", spec: ServiceSpec{Ports: []ServicePort{dns, {Port: 81}}}, reason: "the Service has no port 80, only 53 dns, 81"},
		{name: "it has none", spec: ServiceSpec{}, reason: "the Service has no ports"},
		{name: "not TCP", spec: ServiceSpec{Ports: []ServicePort{{Port: 80, Protocol: "UDP"}}}, reason: "port 80 is UDP, and only TCP goes through Envoy"},
		{
			name: "one number, two protocols", spec: ServiceSpec{Ports: []ServicePort{{Port: 80, Protocol: "UDP"}, {Port: 80, Protocol: "TCP"}}},
			open: []ServicePort{{Port: 80, Protocol: "TCP"}},
		},
		{name: "headless", spec: ServiceSpec{ClusterIP: "None", Ports: []ServicePort{web}}, open: []ServicePort{web}},
		{
			name: "an alias", spec: ServiceSpec{Type: "ExternalName", Ports: []ServicePort{web}},
			reason: "an ExternalName Service has no address: label the Service that it names, or exclude what it names from the redirect " +
				"with the pod annotation traffic.envoy.exclude-cidrs",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			labels := map[string]string{"traffic.port.80": "HTTP"}
			settings, _ := Parse(Service, labels)
			var problems []Problem
			if test.reason != "" {
				problems = []Problem{{Key: "traffic.port.80", Value: "HTTP", Reason: test.reason, InForce: "nothing is opened"}}
			}
			open, shut := test.spec.Opened(labels, settings)
			if diff := cmp.Diff(test.open, open); diff != "" {
				t.Errorf("open (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(problems, shut); diff != "" {
				t.Errorf("problems (-want +got):\n%s", diff)
			}
		})
	}
}

// TestManyPorts: of an object with thousands of ports, and a label for as many others, each reason names a few; with all of them in each,
// one Service filled the memory of the webhook, and of the control plane for as long as it was there.
func TestManyPorts(t *testing.T) {
	const n = 2000
	var service ServiceSpec
	var app Container
	labels := map[string]string{}
	for i := range n {
		labels[PortKey(uint16(10_000+i))] = "tcp"
		service.Ports = append(service.Ports, ServicePort{Port: int32(20_000 + i)})
		app.Ports = append(app.Ports, ContainerPort{ContainerPort: int32(20_000 + i)})
	}
	settings, _ := Parse(Service, labels)
	const few = "20000, 20001, 20002, 20003, 20004, 20005, 20006, 20007, 20008, 20009 and 1990 more"
	_, shut := service.Opened(labels, settings)
	declared := PodSpec{Containers: []Container{app}}.Undeclared(labels, settings, "traffic-envoy")
	for want, problems := range map[string][]Problem{
		"the Service has no port 10000, only " + few:                             shut,
		"the containers declare only " + few + ": does one listen on 10000 too?": declared,
	} {
		if len(problems) != n || problems[0].Reason != want {
			t.Errorf("%d problems, the first is %.200v, want %s", len(problems), problems[:min(len(problems), 1)], want)
		}
	}
}

// TestUnkept: what a Service asks of Kubernetes, or of Envoy, and does not get where a label opens its port.
func TestUnkept(t *testing.T) {
	const (
		sticky   = "Envoy balances each request, whatever sessionAffinity says: set traffic.lb.policy=RING_HASH with traffic.hash.cookie.name or traffic.hash.header.name, or direct"
		stickier = "Envoy balances each connection, whatever sessionAffinity says: direct leaves them to Kubernetes"
		dialled  = "a tcp connection to a headless Service goes to the address that was dialled"
	)
	tests := []struct {
		name, port, policy, header, affinity, clusterIP string
		key, want                                       string
	}{
		{name: "http", port: "http", affinity: "ClientIP", key: "traffic.port.80", want: sticky},
		{name: "http, with a hash", port: "http", affinity: "ClientIP", policy: "MAGLEV", header: "x-user"},
		{name: "http, with a hash of nothing", port: "grpc", affinity: "ClientIP", policy: "MAGLEV", key: "traffic.port.80", want: sticky},
		{name: "tcp", port: "tcp", affinity: "ClientIP", key: "traffic.port.80", want: stickier},
		{name: "direct", port: "direct", affinity: "ClientIP"},
		{name: "no affinity", port: "http", affinity: "None"},
		{name: "a headless Service has no affinity", port: "http", affinity: "ClientIP", clusterIP: "None"},
		{name: "headless tcp with a policy", port: "tcp", policy: "RANDOM", clusterIP: "None", key: PolicyKey, want: dialled},
		{name: "headless http with a policy", port: "http", policy: "RANDOM", clusterIP: "None"},
		{name: "tcp with a policy", port: "tcp", policy: "RANDOM"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			labels := map[string]string{"traffic.port.80": test.port, PolicyKey: test.policy, headerNameKey: test.header}
			settings, _ := Parse(Service, labels)
			spec := ServiceSpec{ClusterIP: test.clusterIP, SessionAffinity: test.affinity, Ports: []ServicePort{{Port: 80}}}
			open, problems := spec.Opened(labels, settings)
			if len(open) != 1 {
				t.Errorf("it is closed: %v", problems)
			}
			var key, got string
			for _, p := range problems {
				key, got = p.Key, got+p.Reason
			}
			if key != test.key || got != test.want {
				t.Errorf("%s: %q, want %s: %q", key, got, test.key, test.want)
			}
		})
	}
}
