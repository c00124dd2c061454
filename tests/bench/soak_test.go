package bench

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
)

const (
	// A storm is so many edits a second, one after the other over the first Services.
	stormRate     = 100
	stormSeconds  = 30
	stormServices = 100

	timeoutKey = "traffic.request.timeout"
)

// BenchmarkSoak edits 100 Services 100 times a second for half a minute, and fails unless each of 100 clients then has what
// the labels say, on the stream that it began with. It prints how far the clients were behind.
func BenchmarkSoak(b *testing.B) {
	f := figures.New()
	w := newWorld(b)
	client := newClient(b)
	scaled(b, client, "traffic-control", 0) // its replicas would do the work of each edit as well
	p := populate(b, client, w.serve(b))
	control := newControlPlane(b, kubeconfig(b), p.namespace)
	nodes, tokens := p.identities(b, proxies+1)
	for b.Loop() {
		for n := range *figures.Rounds {
			soak(b, f, p, control, nodes, tokens, n*stormSeconds*stormRate/stormServices)
		}
	}
	f.Print(b)
}

// soak runs one storm. Its values begin above first, so that no round finds what it writes.
func soak(b *testing.B, f *figures.Table, p *population, control *controlPlane, nodes, tokens []string, first int) {
	clients := newFleet(control, p.namespace)
	s := newStorm(p)
	clients.seen = s.seen
	synchronized := clients.aim(synced)
	stop := clients.run(b, nodes, tokens)
	control.start(b)
	clients.wait(b, synchronized)

	begin := time.Now()
	busy := processorTime(b, control.pid())
	s.forget()
	writes := s.rage(b, p, first)
	f.Add("edits per second", float64(len(writes))/time.Since(begin).Seconds())
	s.calm(b)
	f.Times("API write alone", writes)
	lag := s.lags
	f.Times("lag to last ACK", lag)
	f.Add("lag to last ACK max ms", figures.Milliseconds(figures.Percentile(lag, 100)))
	f.Add("responses per client and edit", float64(s.responses)/proxies/float64(len(writes)))
	f.Add("processor of traffic-control %", (processorTime(b, control.pid())-busy)/time.Since(begin).Seconds()*100)
	f.Add("resident MB", memory(b, control.pid(), "VmRSS"))
	if err := clients.failure(); err != nil {
		b.Error(err)
	}
	stop()
	control.stop(b)
	for line := range bytes.Lines(control.log.Bytes()) {
		if bytes.Contains(line, []byte(`"level":"WARN"`)) || bytes.Contains(line, []byte(`"level":"ERROR"`)) {
			b.Errorf("traffic-control: %s", line)
		}
	}
}

// A storm is what was written and what clients have of it. A value is larger than all that the Service had before.
type storm struct {
	services map[string]int // by the name of their route

	mu sync.Mutex
	// values are what each client has, by Service.
	values [stormServices][proxies]int
	// open are the edits that not all clients have, oldest first, by Service.
	open [stormServices][]written
	lags []time.Duration
	// responses counts the routes that clients got.
	responses int
	// decoded are the values of routes by version: all clients get the same bytes.
	decoded map[string]int
	failed  error
}

type written struct {
	value int
	at    time.Time
}

func newStorm(p *population) *storm {
	s := &storm{services: map[string]int{}, decoded: map[string]int{}}
	for n := range stormServices {
		s.services[p.clusterName(n)] = n
	}
	return s
}

// forget begins to count anew, after what the clients got when they connected.
func (s *storm) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responses = 0
}

// rage makes the edits at their times, whether or not the API keeps up, and returns how long it took to answer each.
func (s *storm) rage(b *testing.B, p *population, first int) (writes []time.Duration) {
	b.Helper()
	var (
		group    errgroup.Group
		inOrder  [stormServices]sync.Mutex // of one Service
		writesMu sync.Mutex
		tick     = time.NewTicker(time.Second / stormRate)
	)
	defer tick.Stop()
	for i := range stormRate * stormSeconds {
		<-tick.C
		n, value := i%stormServices, first+1+i/stormServices
		group.Go(func() error {
			inOrder[n].Lock()
			defer inOrder[n].Unlock()
			begin := time.Now()
			s.write(n, value, begin)
			err := p.labelService(b.Context(), n, timeoutKey, fmt.Sprintf("%ds", value))
			writesMu.Lock()
			defer writesMu.Unlock()
			writes = append(writes, time.Since(begin))
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	return writes
}

func (s *storm) write(n, value int, at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open[n] = append(s.open[n], written{value, at})
}

// calm waits until every client has the last value of every Service.
func (s *storm) calm(b *testing.B) {
	b.Helper()
	outstanding := func() (edits int, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, open := range s.open {
			edits += len(open)
		}
		return edits, s.failed
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		edits, err := outstanding()
		if err != nil {
			b.Fatal(err)
		}
		if edits == 0 {
			return
		}
		if time.Now().After(deadline) {
			b.Fatalf("a minute after the storm not all clients have %d of the edits", edits)
		}
	}
}

// seen notes what a client has acknowledged.
func (s *storm) seen(client int, typeURL string, r resource) {
	n, concerns := s.services[r.name]
	if !concerns || typeURL != resourcev3.RouteType {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.responses++
	value, err := s.decode(r)
	if err != nil {
		s.failed = err
		return
	}
	s.values[n][client] = value
	least := value
	for _, has := range s.values[n] {
		least = min(least, has)
	}
	for len(s.open[n]) > 0 && s.open[n][0].value <= least {
		s.lags = append(s.lags, time.Since(s.open[n][0].at))
		s.open[n] = s.open[n][1:]
	}
}

// decode returns the seconds of a route's timeout.
func (s *storm) decode(r resource) (int, error) {
	id := r.name + " " + r.version
	if value, known := s.decoded[id]; known {
		return value, nil
	}
	config := &routev3.RouteConfiguration{}
	if err := proto.Unmarshal(r.body, config); err != nil {
		return 0, fmt.Errorf("route %s: %w", r.name, err)
	}
	routes := config.GetVirtualHosts()[0].GetRoutes()
	// The first, if there are two, is for WebSockets.
	value := int(routes[len(routes)-1].GetRoute().GetTimeout().AsDuration().Seconds())
	s.decoded[id] = value
	return value, nil
}
