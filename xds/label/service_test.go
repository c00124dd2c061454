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
		{name: "headless", spec: ServiceSpec{ClusterIP: "None", Ports: []ServicePort{web}}, reason: "a headless Service has no cluster IP"},
		{name: "an alias", spec: ServiceSpec{Type: "ExternalName", Ports: []ServicePort{web}}, reason: "an ExternalName Service has no address of its own"},
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
