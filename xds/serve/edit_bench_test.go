package serve

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// edits are what people do to one of many Services.
var edits = []struct {
	name string
	edit func(m *mesh.Mesh, i int)
}{
	{"weight", func(m *mesh.Mesh, i int) {
		m.SetWorkload("Deployment", benchMeta(0, label.WeightKey, fmt.Sprint(1+i%100)), nil)
	}},
	{"fault", func(m *mesh.Mesh, i int) {
		s := benchService(0, true)
		s.Labels["traffic.fault.abort.percentage"] = fmt.Sprint(1 + i%100)
		m.SetService(s)
	}},
	{"open-close", func(m *mesh.Mesh, i int) { m.SetService(benchService(0, i%2 == 0)) }},
}

// BenchmarkLabelEdit is the way of one label edit from the informer's event to the bytes that are queued for each of 100
// proxies, and their acknowledgements, without the network. It must take as long in a cluster of ten thousand Services as
// in one of a hundred.
func BenchmarkLabelEdit(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		for _, e := range edits {
			b.Run(fmt.Sprintf("%s/services=%d", e.name, services), func(b *testing.B) {
				m, s, all := benchCluster(b, services)
				proxies := newBenchFleet(b, all)
				before := proxies.queued.Load()
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					e.edit(m, i+1)
					update, failures := s.Apply(m.Flush().Ports)
					if len(update.Set)+len(update.Remove) == 0 || len(failures) > 0 {
						b.Fatalf("the edit changed %d resources, failures %v", len(update.Set), failures)
					}
					proxies.publish(b, update)
				}
				b.ReportMetric(float64(proxies.queued.Load()-before)/float64(b.N)/benchProxies, "bytes/proxy")
			})
		}
	}
}

// BenchmarkTranslation is the part of BenchmarkLabelEdit before the proxies: from the event to the resources.
func BenchmarkTranslation(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		for _, e := range edits {
			b.Run(fmt.Sprintf("%s/services=%d", e.name, services), func(b *testing.B) {
				m, s, _ := benchCluster(b, services)
				b.ReportAllocs()
				for i := 0; b.Loop(); i++ {
					e.edit(m, i+1)
					s.Apply(m.Flush().Ports)
				}
			})
		}
	}
}

// BenchmarkTranslationOfAll is the time from all objects to all resources.
func BenchmarkTranslationOfAll(b *testing.B) {
	for _, services := range []int{100, 1000, 10000} {
		b.Run(fmt.Sprintf("services=%d", services), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				benchCluster(b, services)
			}
		})
	}
}

// A benchFleet is a store with proxies that answer at once.
type benchFleet struct {
	store *store
	// queued counts the bytes of responses.
	queued atomic.Int64
}

// newBenchFleet returns when each proxy has everything.
func newBenchFleet(b *testing.B, all Update) *benchFleet {
	f := &benchFleet{store: newStore(0)}
	f.store.publish(all, newTracker(func(Applied) {}))
	var synced sync.WaitGroup
	synced.Add(benchProxies)
	for range benchProxies {
		f.connect(b, len(all.Set), synced.Done)
	}
	synced.Wait()
	return f
}

// connect runs the loop of a stream for a proxy that subscribes as Envoy does, and calls synced when it got that many
// resources.
func (f *benchFleet) connect(b *testing.B, resources int, synced func()) {
	none := hooks{refused: func(string) {}, reject: func(Rejection) {}, expired: func() {}}
	st := newStream(pod("a"), f.store, defaultPatience, none)
	f.store.attach(st)
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest, 2*maxTypes) // one response of a type is in flight at a time
	for _, typeURL := range []string{clusters, listeners} {
		requests <- &discoveryv3.DeltaDiscoveryRequest{Node: &corev3.Node{Id: "a.default"}, TypeUrl: typeURL}
	}
	known := map[envoy.Key]bool{}
	send := func(r *response) error {
		f.queued.Add(int64(r.encode().Len()))
		if before := resources; before > 0 {
			if resources -= len(r.items); resources <= 0 {
				synced()
			}
		}
		subscribe := map[string][]string{}
		for _, it := range r.items {
			if it.record == nil {
				if r.typeURL == clusters { // a listener drains, and keeps its routes meanwhile
					delete(known, envoy.Key{Type: endpoints, Name: it.name})
					requests <- &discoveryv3.DeltaDiscoveryRequest{TypeUrl: endpoints, ResourceNamesUnsubscribe: []string{it.name}}
				}
				continue
			}
			for _, ref := range it.record.refs {
				if !known[ref] {
					known[ref] = true
					subscribe[ref.Type] = append(subscribe[ref.Type], ref.Name)
				}
			}
		}
		for typeURL, names := range subscribe {
			requests <- &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: names}
		}
		requests <- &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.typeURL, ResponseNonce: r.nonce}
		return nil
	}
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = st.loop(requests, stop, send)
		st.abandon()
	}()
	b.Cleanup(func() {
		close(stop)
		<-done
	})
}

// publish waits until all proxies have the update.
func (f *benchFleet) publish(b *testing.B, u Update) {
	done := make(chan Applied, 1)
	t := newTracker(func(a Applied) { done <- a })
	f.store.publish(u, t)
	t.finish(unconcerned)
	if a := <-done; a.Acknowledged != benchProxies {
		b.Fatalf("applied: %+v", a)
	}
}

// benchCluster has Services of one open port with two pods of a Deployment each.
func benchCluster(b *testing.B, services int) (*mesh.Mesh, *envoy.Snapshot, Update) {
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogAll})
	if err != nil {
		b.Fatal(err)
	}
	m, s := mesh.New(mesh.Config{KubernetesAPI: true}), envoy.NewSnapshot(translator)
	for n := range services {
		m.SetService(benchService(n, true))
		m.SetEndpointSlice(benchSlice(n))
		m.SetWorkload("Deployment", benchMeta(n), nil)
		m.SetWorkload("ReplicaSet", controlledBy(benchMeta(n), "Deployment"), nil)
		for i := range 2 {
			pod := controlledBy(benchMeta(n), "ReplicaSet")
			pod.Name = fmt.Sprint(pod.Name, "-", i)
			m.SetPod(&corev1.Pod{ObjectMeta: *pod})
		}
	}
	update, failures := s.Apply(m.Flush().Ports)
	if len(update.Set) != 4*services || len(failures) != 0 {
		b.Fatalf("%d resources, failures %v", len(update.Set), failures)
	}
	return m, s, update
}

func benchMeta(n int, labels ...string) *metav1.ObjectMeta {
	meta := &metav1.ObjectMeta{Namespace: "bench", Name: fmt.Sprint("app-", n)}
	for i := 0; i < len(labels); i += 2 {
		metav1.SetMetaDataLabel(meta, labels[i], labels[i+1])
	}
	return meta
}

func controlledBy(meta *metav1.ObjectMeta, kind string) *metav1.ObjectMeta {
	yes := true
	meta.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: kind, Name: meta.Name, Controller: &yes}}
	return meta
}

func benchService(n int, open bool) *corev1.Service {
	ip := fmt.Sprintf("10.%d.%d.%d", 100+n>>16, n>>8&255, n&255)
	s := &corev1.Service{ObjectMeta: *benchMeta(n), Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}}
	if open {
		s.Labels = map[string]string{label.PortKey(80): "http"}
	}
	return s
}

func benchSlice(n int) *discoveryv1.EndpointSlice {
	name, port := "http", int32(8080)
	s := &discoveryv1.EndpointSlice{
		ObjectMeta:  *benchMeta(n, discoveryv1.LabelServiceName, fmt.Sprint("app-", n)),
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port}},
	}
	for i := range 2 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{fmt.Sprintf("10.%d.%d.%d", 2*i+n>>16, n>>8&255, n&255)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: fmt.Sprint("app-", n, "-", i)},
		})
	}
	return s
}
