package serve

import (
	"maps"
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"
)

// A model is a proxy that follows the protocol, and the connection between it and a stream: messages travel in both
// directions as slowly as the test likes.
type model struct {
	t      *rapid.T
	store  *store
	stream *stream
	up     []*discoveryv3.DeltaDiscoveryRequest
	down   []*discoveryv3.DeltaDiscoveryResponse
	subs   map[string]*modelSub
	// warming are the clusters that were new or changed and have got no endpoints since, nor heard that there are none.
	warming map[string]bool
	// rejects tells which resources the proxy refuses.
	rejects func(name, version string) bool
	// open counts the updates that have not been reported.
	open int
}

type modelSub struct {
	begun    bool // on this stream
	wildcard bool
	names    map[string]bool
	have     map[string]string
}

var modelTypes = []string{clusters, endpoints, listeners, routes, secrets}

func newModel(t *rapid.T) *model {
	m := &model{t: t, store: newStore(0), subs: map[string]*modelSub{}, warming: map[string]bool{}, rejects: func(string, string) bool { return false }}
	for _, typeURL := range modelTypes {
		m.subs[typeURL] = &modelSub{names: map[string]bool{}, have: map[string]string{}}
	}
	m.connect()
	return m
}

func (m *model) connect() {
	m.stream = newStream(pod("a"), m.store, time.Hour, hooks{
		refused: func(string) {}, reject: func(Rejection) {}, expired: func() {},
	})
	m.store.attach(m.stream)
	m.up, m.down = nil, nil
	for _, typeURL := range modelTypes {
		sub := m.subs[typeURL]
		sub.begun = false
		if sub.wildcard || len(sub.names) > 0 {
			m.ask(typeURL, nil, nil)
		}
	}
}

func (m *model) reconnect() {
	m.stream.abandon()
	m.connect()
}

// ask sends a request; the first of a type on a stream says everything.
func (m *model) ask(typeURL string, subscribe, unsubscribe []string) {
	sub := m.subs[typeURL]
	req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: subscribe, ResourceNamesUnsubscribe: unsubscribe}
	if !sub.begun {
		sub.begun = true
		req.ResourceNamesUnsubscribe = nil
		req.ResourceNamesSubscribe = slices.Sorted(maps.Keys(sub.names))
		if sub.wildcard && len(sub.names) > 0 {
			req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, "*")
		}
		if !sub.wildcard && len(sub.names) == 0 {
			sub.begun = false
			return
		}
		req.InitialResourceVersions = maps.Clone(sub.have)
	}
	m.up = append(m.up, req)
}

func (m *model) subscribe(typeURL string, names ...string) {
	sub := m.subs[typeURL]
	for _, name := range names {
		if name == "*" {
			sub.wildcard = true
		} else {
			sub.names[name] = true
		}
	}
	m.ask(typeURL, names, nil)
}

func (m *model) unsubscribe(typeURL string, names ...string) {
	sub := m.subs[typeURL]
	for _, name := range names {
		if name == "*" {
			sub.wildcard = false
		}
		delete(sub.names, name)
	}
	if !sub.wildcard { // else what was asked for by name may be part of the wildcard: the server says
		maps.DeleteFunc(sub.have, func(name, _ string) bool { return !sub.names[name] })
	}
	m.ask(typeURL, nil, names)
}

func (m *model) publish(u Update) {
	m.open++
	t := newTracker(func(Applied) { m.open-- })
	m.store.publish(u, t)
	t.finish(unconcerned)
}

// serverTurn lets the stream take one request, if there is one, and say what it has to say.
func (m *model) serverTurn() {
	if len(m.up) > 0 {
		req := m.up[0]
		m.up = m.up[1:]
		if err := m.stream.receive(req); err != nil {
			m.t.Fatalf("receive %v: %v", req, err)
		}
	}
	err := m.stream.flush(func(r *response) error {
		message := &discoveryv3.DeltaDiscoveryResponse{}
		if err := proto.Unmarshal(r.encode().Materialize(), message); err != nil {
			return err
		}
		m.check(message)
		m.down = append(m.down, message)
		return nil
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

// check holds of every response.
func (m *model) check(r *discoveryv3.DeltaDiscoveryResponse) {
	seen := map[string]bool{}
	names := slices.Clone(r.GetRemovedResources())
	for _, resource := range r.GetResources() {
		names = append(names, resource.GetName())
		if resource.GetResource().GetTypeUrl() != r.GetTypeUrl() {
			m.t.Fatalf("%s in a response of %s", resource.GetResource().GetTypeUrl(), r.GetTypeUrl())
		}
	}
	for _, name := range names {
		if seen[name] {
			m.t.Fatalf("%q is in %q twice", name, describe(r))
		}
		seen[name] = true
	}
	for _, earlier := range m.down {
		if earlier.GetTypeUrl() == r.GetTypeUrl() {
			m.t.Fatalf("%q while %q is in flight", describe(r), describe(earlier))
		}
	}
}

// proxyTurn lets the proxy take one response, if there is one.
func (m *model) proxyTurn() {
	if len(m.down) == 0 {
		return
	}
	r := m.down[0]
	m.down = m.down[1:]
	sub := m.subs[r.GetTypeUrl()]
	answer := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}
	bad := slices.ContainsFunc(r.GetResources(), func(resource *discoveryv3.Resource) bool {
		return m.rejects(resource.GetName(), resource.GetVersion())
	})
	if bad {
		answer.ErrorDetail = &statuspb.Status{Message: "no"}
		m.up = append(m.up, answer)
		return
	}
	for _, resource := range r.GetResources() {
		name, version := resource.GetName(), resource.GetVersion()
		if !sub.wildcard && !sub.names[name] {
			continue
		}
		switch {
		case r.GetTypeUrl() == clusters && sub.have[name] != version:
			m.warming[name] = version != staticCluster(name, 0).Version
		case r.GetTypeUrl() == endpoints:
			delete(m.warming, name)
		}
		sub.have[name] = version
	}
	for _, name := range r.GetRemovedResources() {
		delete(sub.have, name)
		if r.GetTypeUrl() == clusters || r.GetTypeUrl() == endpoints {
			delete(m.warming, name)
		}
	}
	m.up = append(m.up, answer)
}

// settle lets everything arrive.
func (m *model) settle() {
	for range 1000 {
		m.serverTurn()
		if len(m.up)+len(m.down) == 0 {
			return
		}
		m.proxyTurn()
	}
	m.t.Fatal("the server and the proxy never come to rest")
}

// finish settles, waits for what the proxy will never ask for, and compares.
func (m *model) finish() {
	m.settle()
	for range ranks {
		m.stream.expire()
		m.settle()
	}
	for _, typeURL := range modelTypes {
		sub := m.subs[typeURL]
		want := map[string]string{}
		for name, r := range m.store.resources[typeURL] {
			if sub.wildcard || sub.names[name] {
				want[name] = r.Version
			}
		}
		have := maps.Clone(sub.have)
		for name, version := range want {
			if m.rejects(name, version) { // then any other is as good
				delete(want, name)
				delete(have, name)
			}
		}
		if !maps.Equal(have, want) {
			m.t.Fatalf("the proxy has %s %v, want %v", typeLabel(typeURL), have, want)
		}
	}
	for name, warming := range m.warming {
		_, has := m.subs[clusters].have[name]
		published := m.store.resources[endpoints][name]
		refused := published != nil && m.rejects(name, published.Version)
		if has && warming && m.subs[endpoints].names[name] && !refused {
			m.t.Fatalf("cluster %s is warming forever", name)
		}
	}
	if m.open != 0 {
		m.t.Fatalf("%d updates were not reported", m.open)
	}
	m.checkIdle()
}

// checkIdle holds of a stream that has nothing to do.
func (m *model) checkIdle() {
	for _, sub := range m.stream.subs {
		if sub.flight != nil || len(sub.dirty) > 0 || sub.unanswered {
			m.t.Fatalf("%s is not at rest: flight %v, dirty %v, unanswered %v", typeLabel(sub.typeURL), sub.flight, sub.dirty, sub.unanswered)
		}
	}
	if m.stream.waits != noWait || len(m.stream.waiters) != 0 {
		m.t.Fatalf("waits %v, waiters %v", m.stream.waits, m.stream.waiters)
	}
}
