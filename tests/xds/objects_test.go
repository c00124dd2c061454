package xds

import (
	"fmt"
	"net/http"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A cluster is Kubernetes objects as the control plane follows them, published to its proxies.
type cluster struct {
	*mesh.Mesh
	control  *control
	snapshot *envoy.Snapshot
}

func newCluster(t *testing.T, c *control) *cluster {
	t.Helper()
	translator, err := envoy.NewTranslator(envoy.Config{})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{Mesh: mesh.New(mesh.Config{}), control: c, snapshot: envoy.NewSnapshot(translator)}
}

// publish waits until every proxy has what changed.
func (c *cluster) publish(t *testing.T) envoy.Update {
	t.Helper()
	update, failures := c.snapshot.Apply(c.Flush().Ports)
	for _, f := range failures {
		t.Error(f)
	}
	if a := c.control.publish(t, update); a.Rejected > 0 || a.Gone > 0 {
		t.Fatalf("applied: %+v", a)
	}
	return update
}

func named(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels}
}

// setService has a port 80, which is 8080 in its pods.
func (c *cluster) setService(name, clusterIP string, labels map[string]string) {
	c.SetService(&corev1.Service{ObjectMeta: named(name, labels), Spec: corev1.ServiceSpec{
		ClusterIP: clusterIP, ClusterIPs: []string{clusterIP}, Ports: []corev1.ServicePort{{Port: 80}},
	}})
}

// setEndpoints has a Service's pods NAME-0, NAME-1 and so on, which are ready.
func (c *cluster) setEndpoints(name string, addresses ...string) {
	port := int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  named(name+"-1", map[string]string{discoveryv1.LabelServiceName: name}),
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Port: &port}},
	}
	for i, a := range addresses {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{a}, TargetRef: &corev1.ObjectReference{Kind: string(label.Pod), Name: fmt.Sprint(name, "-", i)},
		})
	}
	c.SetEndpointSlice(s)
}

func (c *cluster) setPod(name, address string, labels map[string]string) {
	c.SetPod(&corev1.Pod{ObjectMeta: named(name, labels), Status: corev1.PodStatus{
		Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: address}},
	}})
}

// serverAt answers every request to port 8080 of an address with a name.
func (w *world) serverAt(t *testing.T, address, name string) {
	t.Helper()
	injected.Inside(t, w.outside, func() error { return injected.Up("eth0", address) })
	l := listen(t, w.outside, address+":8080")
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(rw, name)
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
}

// ask makes requests from the pod to an address, by a name, and counts the answers: the servers' names, or statuses.
func (w *world) ask(t *testing.T, requests int, address, host string) map[string]int {
	t.Helper()
	client := w.client(true)
	defer client.CloseIdleConnections()
	answers := map[string]int{}
	for range requests {
		status, body, err := requestBy(client, address, host)
		if err != nil {
			t.Fatalf("%s at %s: %v", host, address, err)
		}
		if status != http.StatusOK {
			body = fmt.Sprint(status)
		}
		answers[body]++
	}
	return answers
}
