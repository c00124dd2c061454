package mesh

import (
	"fmt"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const beyondLimit = `label traffic.port.%d=%q: with it there are more than the 1000 addresses that a Service or Pod can have open, ` +
	`all its ports together: open fewer ports, split a headless Service, or give it a cluster IP; in force: the addresses beyond are blocked`

// opened counts the ports of an owner and their addresses.
func opened(m *Mesh, o Object) (ports, addresses int) {
	for _, p := range m.ports[o] {
		addresses += len(p.Addresses)
	}
	return len(m.ports[o]), addresses
}

// checkBeyond wants one problem, or with port 0 none.
func checkBeyond(t *testing.T, m *Mesh, o Object, port int, protocol string) {
	t.Helper()
	problems := m.Problems(o)
	if port == 0 {
		if len(problems) > 0 {
			t.Errorf("%s: told %v", o, problems)
		}
		return
	}
	if want := fmt.Sprintf(beyondLimit, port, protocol); len(problems) != 1 || problems[0].String() != want {
		t.Errorf("%s: told %d, %v, want %s", o, len(problems), problems[:min(len(problems), 1)], want)
	}
}

// TestLimitOfPod: who can label a Pod cannot fill the memory of every sidecar with it.
func TestLimitOfPod(t *testing.T) {
	m := New(Config{})
	p := podAt("greedy", "10.0.0.1")
	p.Status.PodIPs = append(p.Status.PodIPs, corev1.PodIP{IP: "fd00::1"})
	for port := range 20000 {
		metav1.SetMetaDataLabel(&p.ObjectMeta, fmt.Sprint("traffic.port.", port+1), "tcp")
	}
	m.SetPod(p)
	m.Flush()
	o := Object{Kind: "Pod", Namespace: "default", Name: "greedy"}
	if ports, addresses := opened(m, o); ports != 1000 || addresses != 1000 {
		t.Errorf("%d ports are open at %d addresses", ports, addresses)
	}
	checkBeyond(t, m, o, 1, "tcp")
}

// TestLimitOfService: nor can who writes a Service; every port keeps its cluster IP.
func TestLimitOfService(t *testing.T) {
	m := New(Config{})
	s := webService("greedy", "10.96.0.1")
	s.Spec.Ports, s.Labels = nil, nil
	for port := range int32(10) {
		s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: fmt.Sprint("p", port), Port: 80 + port})
		metav1.SetMetaDataLabel(&s.ObjectMeta, fmt.Sprint("traffic.port.", 80+port), "http")
	}
	address := netip.MustParseAddr("192.0.2.0")
	for range 150 {
		s.Spec.ExternalIPs = append(s.Spec.ExternalIPs, address.String())
		address = address.Next()
	}
	m.SetService(s)
	m.Flush()
	o := Object{Kind: "Service", Namespace: "default", Name: "greedy"}
	if ports, addresses := opened(m, o); ports != 10 || addresses != 1000 {
		t.Errorf("%d ports are open at %d addresses", ports, addresses)
	}
	for _, p := range m.ports[o] {
		if at := p.Addresses[0]; at.Addr().String() != "10.96.0.1" || len(p.Addresses) != 100 {
			t.Errorf("port %d: %d addresses, from %s", p.Number, len(p.Addresses), at)
		}
	}
	checkBeyond(t, m, o, 80, "http")
}

// big is a headless Service with the ports 80 at all of the pods' addresses and 81 at the first few only.
func big(addresses []string, few int) (*corev1.Service, []*discoveryv1.EndpointSlice) {
	s := headless("big", 1)
	s.Labels["traffic.port.81"] = "tcp"
	s.Spec.Ports = []corev1.ServicePort{{Name: "web", Port: 80}, {Name: "db", Port: 81}}
	web, db := sliceOf("big", addresses...), sliceOf("big", addresses[:few]...)
	web.Ports = []discoveryv1.EndpointPort{{Name: ptr("web"), Port: ptr(int32(8080))}}
	db.Ports = []discoveryv1.EndpointPort{{Name: ptr("db"), Port: ptr(int32(8081))}}
	db.Name = "big-db"
	return s, []*discoveryv1.EndpointSlice{web, db}
}

func someAddresses(from string, n int) []string {
	var addresses []string
	a := netip.MustParseAddr(from)
	for range n {
		addresses = append(addresses, a.String())
		a = a.Next()
	}
	return addresses
}

// TestLimitOfHeadless: of a Service that is too big its ports share what can be open, and when it has shrunk it is open
// altogether.
func TestLimitOfHeadless(t *testing.T) {
	o := Object{Kind: "Service", Namespace: "default", Name: "big"}
	for _, test := range []struct{ web, db, wantWeb, wantDB, told int }{
		{web: 600, db: 600, wantWeb: 500, wantDB: 500, told: 80},
		{web: 1500, db: 10, wantWeb: 990, wantDB: 10, told: 80},
		{web: 500, db: 500, wantWeb: 500, wantDB: 500},
		{web: 1001, db: 1, wantWeb: 999, wantDB: 1, told: 80},
	} {
		m := New(Config{})
		service, list := big(someAddresses("10.1.0.0", test.web), test.db)
		m.SetService(service)
		for _, slice := range list {
			m.SetEndpointSlice(slice)
		}
		m.Flush()
		ports := m.ports[o]
		if web, db := len(ports[0].Addresses), len(ports[1].Addresses); web != test.wantWeb || db != test.wantDB || len(ports[0].Endpoints) != test.web {
			t.Errorf("%+v: %d and %d addresses are open, %d endpoints", test, web, db, len(ports[0].Endpoints))
		}
		checkBeyond(t, m, o, test.told, "http")
		m.SetEndpointSlice(sliceOf("big"))
		m.Delete(Object{Kind: EndpointSlice, Namespace: "default", Name: "big-db"})
		m.Flush()
		checkBeyond(t, m, o, 0, "")
	}
}

// TestLimitUnderChurn: pods that come, at whatever address, take no open one from those that were there, and tell nothing
// new.
func TestLimitUnderChurn(t *testing.T) {
	m := New(Config{})
	addresses := someAddresses("10.1.0.0", 1200)
	for i, address := range addresses {
		p := podAt(fmt.Sprint("big-", i), address)
		p.CreationTimestamp = metav1.Unix(int64(i), 0)
		m.SetPod(p)
	}
	m.SetService(headless("big", 1))
	m.SetEndpointSlice(sliceOf("big", addresses...))
	m.Flush()
	o := Object{Kind: "Service", Namespace: "default", Name: "big"}
	checkBeyond(t, m, o, 80, "http")
	before := m.ports[o][0].Addresses
	m.SetEndpointSlice(sliceOf("big", append(addresses, someAddresses("10.0.0.1", 50)...)...))
	for i, address := range someAddresses("10.0.0.1", 50) {
		p := podAt(fmt.Sprint("big-", 1200+i), address)
		p.CreationTimestamp = metav1.Unix(int64(2000+i), 0)
		if i > 0 { // one is not known yet
			m.SetPod(p)
		}
	}
	changes := m.Flush()
	after := m.ports[o][0].Addresses
	if len(before) != 1000 || fmt.Sprint(before) != fmt.Sprint(after) || len(changes.Problems) != 0 {
		t.Errorf("%d addresses were open from %s, %d are from %s; told %v", len(before), before[0], len(after), after[0], changes.Problems)
	}
}
