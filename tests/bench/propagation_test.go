package bench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"golang.org/x/sync/errgroup"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
)

// editsEach is how many edits of each kind there are in a round.
const editsEach = 50

// BenchmarkPropagation prints how long it takes from just before a label is written to the Kubernetes API until the last of
// 100 clients has acknowledged what it means, in a cluster of 1,000 Services, half of them open; then the same to the first
// request that behaves so at a real Envoy; and what the control plane needs for it.
func BenchmarkPropagation(b *testing.B) {
	f := figures.New()
	w := newWorld(b)
	client := newClient(b)
	scaled(b, client, "traffic-control", 0) // its replicas would do the work of each edit as well
	p := populate(b, client, w.serve(b))
	control := newControlPlane(b, kubeconfig(b), p.namespace)
	nodes, tokens := p.identities(b, proxies+1)
	goals(f)
	for b.Loop() {
		for range *figures.Rounds {
			round(b, f, p, control, w, nodes, tokens)
		}
	}
	f.Print(b)
}

func goals(f *figures.Table) {
	for _, edit := range []string{"weight", "fault", "open", "close"} {
		f.Goal(edit+" to last ACK p50 ms", 12)
		f.Goal(edit+" to last ACK p99 ms", 25)
		f.Goal(edit+" to first request p50 ms", 22)
		f.Goal(edit+" to first request p99 ms", 35)
	}
	f.Goal("start to all synced ms", 1000)
	f.Goal("resident after the edits MB", 80)
}

// round starts the control plane and takes each figure once.
func round(b *testing.B, f *figures.Table, p *population, control *controlPlane, w *world, nodes, tokens []string) {
	clients := newFleet(control, p.namespace)
	synchronized := clients.aim(synced)
	stop := clients.run(b, nodes, tokens)
	defer stop()
	begin := time.Now()
	control.start(b)
	defer control.stop(b)
	f.Add("start to all synced ms", figures.Milliseconds(clients.wait(b, synchronized).Sub(begin)))
	f.Add("start, processor ms", processorTime(b, control.pid())*1000)
	f.Add("resident after the start MB", memory(b, control.pid(), "VmRSS"))

	busy, own := processorTime(b, control.pid()), processorTime(b, os.Getpid())
	p.acknowledgements(b, f, clients)
	total := float64(4 * editsEach)
	f.Add("each edit, processor ms of traffic-control", (processorTime(b, control.pid())-busy)*1000/total)
	f.Add("each edit, processor ms of the clients", (processorTime(b, os.Getpid())-own)*1000/total)
	f.Add("resident after the edits MB", memory(b, control.pid(), "VmRSS"))

	p.firstRequests(b, f, clients, w, control, tokens[proxies])
	f.Add("resident at the end MB", memory(b, control.pid(), "VmRSS"))
	f.Add("resident at most MB", memory(b, control.pid(), "VmHWM"))
	if err := clients.failure(); err != nil {
		b.Error(err)
	}
}

// identities returns node ids and tokens, each of a pod of another Service, then of its second pod, and then again.
func (p *population) identities(b *testing.B, n int) (nodes, tokens []string) {
	b.Helper()
	nodes, tokens = make([]string, n), make([]string, n)
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(8)
	for i := range n {
		group.Go(func() (err error) {
			pod := podName(i%services, i/services%podsEach)
			nodes[i] = pod + "." + p.namespace
			tokens[i], err = p.token(ctx, pod)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return nodes, tokens
}

// An edit is something that a person does to a Service, again and again.
type edit struct {
	name string
	// write is the call of the API.
	write func(ctx context.Context, i int) error
	// met is what clients have then.
	met func(c *client, i int) bool
}

func (p *population) weigh(weight func(i int) int) edit {
	return edit{
		name: "weight",
		met:  func(c *client, _ int) bool { return c.fresh[key{resourcev3.EndpointType, p.clusterName(weighted)}] },
		write: func(ctx context.Context, i int) error {
			return p.labelDeployment(ctx, "v1", weightKey, fmt.Sprint(weight(i)))
		},
	}
}

func (p *population) fault(percentage func(i int) string) edit {
	return edit{
		name:  "fault",
		met:   func(c *client, _ int) bool { return c.fresh[key{resourcev3.RouteType, p.clusterName(weighted)}] },
		write: func(ctx context.Context, i int) error { return p.labelService(ctx, weighted, faultKey, percentage(i)) },
	}
}

// open opens a Service after the other, which the clients see for the first time, from the given one on.
func (p *population) open(from int) edit {
	return edit{
		name:  "open",
		met:   func(c *client, i int) bool { return p.has(c, from+i) == 4 },
		write: func(ctx context.Context, i int) error { return p.labelService(ctx, from+i, portKey, "http") },
	}
}

func (p *population) close(from int) edit {
	return edit{
		name:  "close",
		met:   func(c *client, i int) bool { return c.have[p.listener(from+i)] == "" },
		write: func(ctx context.Context, i int) error { return p.labelService(ctx, from+i, portKey, "") },
	}
}

func (p *population) listener(service int) key {
	return key{resourcev3.ListenerType, p.addresses[service] + ":80"}
}

// has counts what a client has of a Service: a cluster, a listener, endpoints and a route.
func (p *population) has(c *client, service int) int {
	n := 0
	for _, k := range []key{
		{resourcev3.ClusterType, p.clusterName(service)},
		p.listener(service),
		{resourcev3.EndpointType, p.clusterName(service)},
		{resourcev3.RouteType, p.clusterName(service)},
	} {
		if c.have[k] != "" {
			n++
		}
	}
	return n
}

// acknowledgements takes the time of edits to the last acknowledgement, and of the API's answer.
func (p *population) acknowledgements(b *testing.B, f *figures.Table, clients *fleet) {
	for _, turn := range [][]edit{
		{p.weigh(func(i int) int { return 10 + i%80 })},
		{p.fault(func(i int) string { return fmt.Sprint(1 + i%80) })},
		{p.open(toggled), p.close(toggled)},
	} {
		acks, writes := map[string][]time.Duration{}, map[string][]time.Duration{}
		for i := range editsEach {
			for _, e := range turn {
				ack, write := e.make(b, clients, i)
				acks[e.name], writes[e.name] = append(acks[e.name], ack), append(writes[e.name], write)
			}
		}
		for _, e := range turn {
			f.Times(e.name+" to last ACK", acks[e.name])
			f.Times(e.name+" API write alone", writes[e.name])
		}
	}
}

// make makes the edit and returns when all clients have acknowledged it: how long that took, and how long the API's answer.
func (e edit) make(b *testing.B, clients *fleet, i int) (ack, write time.Duration) {
	b.Helper()
	g := clients.aim(func(c *client) bool { return e.met(c, i) })
	begin := time.Now()
	if err := e.write(b.Context(), i); err != nil {
		b.Fatal(err)
	}
	write = time.Since(begin)
	ack = clients.wait(b, g).Sub(begin)
	// So that edits do not march in step with anything, and each finds the control plane at rest.
	time.Sleep(5*time.Millisecond + rand.N(10*time.Millisecond))
	return ack, write
}

// firstRequests takes the time of edits to the first request that behaves so at a real Envoy among the clients.
func (p *population) firstRequests(b *testing.B, f *figures.Table, clients *fleet, w *world, control *controlPlane, token string) {
	port, cut := w.reach(b, control.address)
	defer cut()
	envoy := startSidecar(b, w, podName(proxies, 0), p.namespace, token, control.ca, port)
	defer envoy.stop()
	p.fault(func(int) string { return "" }).make(b, clients, 0)
	const others = toggled + editsEach
	same, next := func(int) int { return weighted }, func(i int) int { return others + i }
	for _, turn := range [][]struct {
		edit
		service func(i int) int
		behaves func(answer) bool // nil when it is not measured
	}{
		{
			{p.weigh(func(int) int { return 0 }), same, nil},
			{p.weigh(func(int) int { return 100 }), same, func(a answer) bool { return a.body == "v1" }},
		},
		{
			{p.fault(func(int) string { return "100" }), same, func(a answer) bool { return a.status == 503 }},
			{p.fault(func(int) string { return "" }), same, func(a answer) bool { return a.status == 200 }},
		},
		{
			{p.open(others), next, func(a answer) bool { return a.status == 200 }},
			{p.close(others), next, func(a answer) bool { return a.status == 404 }},
		},
	} {
		times := map[string][]time.Duration{}
		for i := range editsEach {
			for _, e := range turn {
				if e.behaves == nil {
					e.make(b, clients, i)
					continue
				}
				seen := make(chan time.Time, 1)
				begin := time.Now()
				service := e.service(i)
				go func() { seen <- w.until(b, "http://"+p.addresses[service]+"/", service == weighted, e.behaves) }()
				e.make(b, clients, i)
				times[e.name] = append(times[e.name], (<-seen).Sub(begin))
			}
		}
		for _, e := range turn {
			if all := times[e.name]; all != nil {
				f.Times(e.name+" to first request", all)
				delete(times, e.name)
			}
		}
	}
}
