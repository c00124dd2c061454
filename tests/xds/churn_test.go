package xds

import (
	"fmt"
	"strings"
	"testing"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

const bystanderIP = "10.96.1.1"

// A town has services that come and go beside one that stays, which is under load.
type town struct {
	*world
	*cluster
	sidecar *sidecar
	load    *load
	// published is what Envoy should have.
	published map[envoy.Key]envoy.Resource
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := newWorld(t)
	c := newCluster(t, startControl(t, w))
	town := &town{world: w, cluster: c, published: map[envoy.Key]envoy.Resource{}}
	for i, address := range []string{first, second} {
		w.serverAt(t, address, fmt.Sprint("server-", i))
	}
	c.setService("bystander", bystanderIP, map[string]string{"traffic.port.80": "http"})
	c.setEndpoints("bystander", first)
	town.change(t)
	town.sidecar = startSidecar(t, w, c.control)
	town.load = w.load(t, bystanderIP+":80")
	return town
}

func (c *town) change(t *testing.T) {
	t.Helper()
	u := c.publish(t)
	for _, r := range u.Set {
		c.published[r.Key] = r
	}
	for _, key := range u.Remove {
		delete(c.published, key)
	}
}

// settled: Envoy has what there is and nothing of what there was, and the bystander noticed nothing. Versions are not
// compared: of a listener that changed in its filters alone, Envoy's dump shows the version before.
func (c *town) settled(t *testing.T) {
	t.Helper()
	want := map[string]bool{}
	for key := range c.published {
		want[kinds[key.Type]+" "+key.Name] = true
	}
	eventually(t, "Envoy has what is published and no more", func() error {
		got, warming := c.sidecar.dump(t)
		names := map[string]bool{}
		for name := range got {
			// Routes of listeners that are gone stay while their connections are drained.
			if want[name] || !strings.HasPrefix(name, "route ") {
				names[name] = true
			}
		}
		if diff := cmp.Diff(want, names); diff != "" || len(warming) > 0 {
			return fmt.Errorf("warming %v, names (-want +got)\n%s", warming, diff)
		}
		return nil
	})
	c.load.wantNoFailure()
}

var kinds = map[string]string{
	resourcev3.ClusterType: "cluster", resourcev3.EndpointType: "endpoint",
	resourcev3.RouteType: "route", resourcev3.ListenerType: "listener",
}

// wants waits for an answer: Envoy acknowledges a listener before each of its workers has it.
func (c *town) wants(t *testing.T, address, want string) {
	t.Helper()
	eventually(t, address+" answers "+want, func() error {
		if _, body, err := c.get(address); body != want {
			return fmt.Errorf("%q, %w", body, err)
		}
		return nil
	})
}

func (c *town) remove(name string) {
	c.Delete(mesh.Object{Kind: "Service", Namespace: "default", Name: name})
	c.Delete(mesh.Object{Kind: mesh.EndpointSlice, Namespace: "default", Name: name + "-1"})
}

// TestServicesComeAndGo: a Service that is deleted and created again, many times, by the same address or by another,
// answers when it is there, and leaves nothing behind.
func TestServicesComeAndGo(t *testing.T) {
	town := newTown(t)
	for i := range 30 {
		ip := fmt.Sprintf("10.96.2.%d", 1+i%3)
		town.setService("guest", ip, map[string]string{"traffic.port.80": "http", "traffic.connection.max": fmt.Sprint(10 + i)})
		town.setEndpoints("guest", second)
		town.change(t)
		town.wants(t, ip+":80", "server-1")
		town.remove("guest")
		town.change(t)
		eventually(t, ip+" is closed", func() error {
			if status, body, err := town.get(ip + ":80"); status != 404 {
				return fmt.Errorf("%d %q, %w", status, body, err)
			}
			return nil
		})
	}
	town.settled(t)
}

// TestSwappedClusterIPs: two Services exchange their addresses; from then on each address leads to the other's pods, and
// neither order of the two events leaves it with both or none.
func TestSwappedClusterIPs(t *testing.T) {
	const a, b = "10.96.2.1", "10.96.2.2"
	town := newTown(t)
	open := map[string]string{"traffic.port.80": "http"}
	town.setService("a", a, open)
	town.setService("b", b, open)
	town.setEndpoints("a", first)
	town.setEndpoints("b", second)
	town.change(t)
	for range 10 {
		town.wants(t, a+":80", "server-0")
		town.wants(t, b+":80", "server-1")
		town.setService("a", b, open)
		town.change(t) // for a moment both have b's
		town.setService("b", a, open)
		town.change(t)
		town.wants(t, b+":80", "server-0")
		town.wants(t, a+":80", "server-1")
		town.setService("b", b, open)
		town.setService("a", a, open)
		town.change(t)
	}
	town.wants(t, a+":80", "server-0")
	town.wants(t, b+":80", "server-1")
	town.settled(t)
}

// TestRenamedPort: the name of a port is what joins Service and EndpointSlice. While they disagree nobody is there to
// answer, and when they agree again the port works as before.
func TestRenamedPort(t *testing.T) {
	const ip = "10.96.2.1"
	town := newTown(t)
	service := func(port string) {
		town.SetService(&corev1.Service{
			ObjectMeta: named("renamed", map[string]string{"traffic.port.80": "http"}),
			Spec:       corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: port, Port: 80}}},
		})
	}
	slice := func(port string) {
		number := int32(8080)
		town.SetEndpointSlice(&discoveryv1.EndpointSlice{
			ObjectMeta:  named("renamed-1", map[string]string{discoveryv1.LabelServiceName: "renamed"}),
			AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &port, Port: &number}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{second}}},
		})
	}
	service("web")
	slice("web")
	town.change(t)
	town.wants(t, ip+":80", "server-1")
	service("http")
	town.change(t)
	if status, _, err := town.get(ip + ":80"); status != 503 {
		t.Errorf("without endpoints: %d, %v", status, err)
	}
	slice("http")
	town.change(t)
	town.wants(t, ip+":80", "server-1")
	town.settled(t)
}

// TestDeletedNamespace: a hundred Services go object by object, as the namespace controller deletes them, and come again.
func TestDeletedNamespace(t *testing.T) {
	const services = 100
	town := newTown(t)
	ip := func(i int) string { return fmt.Sprintf("10.96.3.%d", i+1) }
	for range 3 {
		for i := range services {
			name := fmt.Sprint("service-", i)
			town.setService(name, ip(i), map[string]string{"traffic.port.80": "http"})
			town.setEndpoints(name, second)
		}
		town.change(t)
		town.wants(t, ip(0)+":80", "server-1")
		town.wants(t, ip(services-1)+":80", "server-1")
		for i := range services {
			town.remove(fmt.Sprint("service-", i))
			if i%7 == 0 {
				town.change(t)
			}
		}
		town.change(t)
	}
	town.settled(t)
}

// TestPortOpensAndCloses: who asks all the time while a port is opened and closed finds it open or closed, and never half
// open: without the cluster, the endpoints or the routes that its listener needs.
func TestPortOpensAndCloses(t *testing.T) {
	for _, protocol := range []string{"http", "tcp"} {
		t.Run(protocol, func(t *testing.T) {
			const ip = "10.96.2.1"
			town := newTown(t)
			town.setEndpoints("door", second)
			stop, answers := make(chan struct{}), make(chan map[string]int)
			go func() {
				seen := map[string]int{}
				for {
					select {
					case <-stop:
						answers <- seen
						return
					default:
					}
					status, body, err := town.get(ip + ":80")
					if status == 404 {
						body = ""
					}
					seen[fmt.Sprint(status, body, err)]++
				}
			}()
			for range 50 {
				town.setService("door", ip, map[string]string{"traffic.port.80": protocol})
				town.change(t)
				town.wants(t, ip+":80", "server-1")
				town.setService("door", ip, nil)
				town.change(t)
			}
			close(stop)
			seen := <-answers
			t.Log(seen)
			if seen["200server-1<nil>"] == 0 || seen["404<nil>"] == 0 || len(seen) > 2 {
				t.Errorf("the answers were %v, want 200 and 404 alone", seen)
			}
			town.settled(t)
		})
	}
}
