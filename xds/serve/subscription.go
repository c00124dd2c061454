package serve

import (
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// A subscription is what one stream knows of one resource type. The stream's goroutine owns it.
type subscription struct {
	typeURL string
	// begun is set by the first request of this type, which alone may say what the proxy has from an earlier stream.
	begun bool
	// resumed is set if the proxy had resources from an earlier stream.
	resumed bool
	// wildcard is set while the proxy wants every resource of the type.
	wildcard bool
	// unanswered is set from the beginning of a wildcard subscription to its first response: a proxy that starts waits
	// for one even if there is nothing to send.
	unanswered bool
	// known are the resources that the proxy asked for by name, and those that it got by the wildcard.
	known holdings
	// dirty are the names to look at, most is how many they have been since there was none. A first sync leaves no large map
	// behind.
	dirty map[string]mark
	most  int
	// flight is the response that waits for its acknowledgement; there is one at a time, and what changes meanwhile
	// stays in dirty.
	flight *flight
	// rejected are the versions that the proxy refused, by name.
	rejected map[string]string
	// groups counts the parts of rejected responses.
	groups int
}

// A mark says why a name is dirty.
type mark struct {
	// first and last are the oldest and the newest change that the mark stands for.
	first, last uint64
	// force means that the proxy gets an answer even if it is believed to be up to date.
	force bool
	// awaited means that the proxy will ask for the name by itself, because of a cluster or listener that it got.
	awaited bool
	// group is above zero for a part of a rejected response, which is sent again alone; later parts go first.
	group int
}

// shrink lets a map go that had many names and has none: there is one for each stream.
func (s *subscription) shrink() {
	const few = 8
	if len(s.dirty) > 0 {
		return
	}
	if s.most > few {
		s.dirty = nil
	}
	s.most = 0
}

// A flight is a response that was sent.
type flight struct {
	typeURL, nonce string
	items          []item
}

// An item is one name in a response, with the record to send, or nil for a removal.
type item struct {
	name   string
	mark   mark
	record *record
	rank   rank
}

func (i item) size() int {
	if i.record == nil {
		return len(i.name)
	}
	return i.record.size
}

func newSubscription(typeURL string) *subscription {
	return &subscription{typeURL: typeURL, rejected: map[string]string{}}
}

// wants tells whether the proxy is subscribed to a name.
func (s *subscription) wants(name string) bool {
	return s.wildcard || s.known.get(name).isNamed()
}

// mark makes a name dirty, or widens the mark that it has.
func (s *subscription) mark(name string, m mark) {
	if s.dirty == nil {
		s.dirty = map[string]mark{}
	}
	if old, ok := s.dirty[name]; ok {
		m.first = min(m.first, old.first)
		m.last = max(m.last, old.last)
		m.force = m.force || old.force
		m.awaited = m.awaited || old.awaited
		m.group = max(m.group, old.group)
	}
	s.dirty[name] = m
	s.most = max(s.most, len(s.dirty))
}

// request applies the part of a request that changes the subscription. It is honoured whatever the request's nonce.
// Published are the resources of this type.
func (s *subscription) request(req *discoveryv3.DeltaDiscoveryRequest, published map[string]*record, epoch uint64) {
	first := !s.begun
	s.begun = true
	subscribe, unsubscribe := req.GetResourceNamesSubscribe(), req.GetResourceNamesUnsubscribe()
	if first {
		s.resumed = len(req.GetInitialResourceVersions()) > 0
		s.resume(req.GetInitialResourceVersions(), subscribe, published)
	}
	now := mark{first: epoch, last: epoch}
	if s.allowsWildcard() && (slices.Contains(subscribe, "*") || first && len(subscribe)+len(unsubscribe) == 0) {
		s.subscribeAll(published, now)
	}
	for _, name := range subscribe {
		if name == "*" && s.allowsWildcard() {
			continue
		}
		s.subscribe(name, first, now, published[name])
	}
	for _, name := range unsubscribe {
		if name == "*" && s.allowsWildcard() {
			s.unsubscribeAll()
			continue
		}
		s.unsubscribe(name, now)
	}
}

// allowsWildcard tells whether "*" means every resource of the type. It does for the two types that nothing refers to by
// name; above all it does not for secrets.
func (s *subscription) allowsWildcard() bool {
	return s.typeURL == resourcev3.ClusterType || s.typeURL == resourcev3.ListenerType
}

// resume notes what the proxy has from an earlier stream, as far as it still wants it.
func (s *subscription) resume(versions map[string]string, subscribe []string, published map[string]*record) {
	note := func(name, version string) {
		have := published[name]
		if have == nil || have.Version != version {
			have = nameOnly(s.typeURL, name, nil)
			have.Version = version
		}
		s.known.put(holding{record: have, has: true})
	}
	if s.allowsWildcard() {
		for name, version := range versions {
			note(name, version)
		}
		return
	}
	for _, name := range subscribe {
		if version, ok := versions[name]; ok {
			note(name, version)
		}
	}
}

// subscribeAll begins a wildcard subscription. Beginning it twice is like subscribing to a name twice: the proxy may
// have forgotten what it had, so all is sent again.
func (s *subscription) subscribeAll(published map[string]*record, now mark) {
	now.force = s.wildcard
	s.wildcard, s.unanswered = true, true
	for name := range published {
		s.mark(name, now)
	}
	for h := range s.known.all() {
		s.mark(h.record.Name, now) // it may not be published any more
	}
}

// subscribe adds a name. It is answered even if the proxy is believed to have the resource, because it may have dropped
// it. The exception is a proxy that says in its first request what it has, but not for endpoints: its cluster may be
// warming since before the connection was lost, and then waits for endpoints that did not change.
func (s *subscription) subscribe(name string, first bool, now mark, published *record) {
	h := s.known.get(name)
	now.force = !first || h == nil || s.typeURL == resourcev3.EndpointType
	if h != nil {
		h.named = true
	} else {
		s.known.put(holding{record: nameOnly(s.typeURL, name, published), named: true})
	}
	s.mark(name, now)
}

// unsubscribe drops a name. While there is a wildcard subscription the proxy does not know whether the resource is still
// meant for it, and must be told.
func (s *subscription) unsubscribe(name string, now mark) {
	h := s.known.get(name)
	if !h.isNamed() {
		return
	}
	if s.wildcard {
		h.named, now.force = false, true
		s.mark(name, now)
		return
	}
	s.known.remove(name)
	delete(s.rejected, name)
}

// unsubscribeAll ends a wildcard subscription; names that were asked for stay.
func (s *subscription) unsubscribeAll() {
	s.wildcard, s.unanswered = false, false
	named := holdings{}
	for h := range s.known.all() {
		if h.named {
			named.put(*h)
		} else {
			delete(s.rejected, h.record.Name)
		}
	}
	s.known = named
}

// depart puts items in flight.
func (s *subscription) depart(nonce string, items []item) {
	s.flight = &flight{s.typeURL, nonce, items}
	s.unanswered = false
	defer s.shrink()
	for i, it := range items {
		items[i].mark = s.dirty[it.name] // what was sent just before may have widened it
		delete(s.dirty, it.name)
		if s.known.get(it.name) == nil {
			s.known.put(holding{record: nameOnly(s.typeURL, it.name, it.record)})
		}
	}
}

// acknowledge notes that the proxy took the response in flight.
func (s *subscription) acknowledge() {
	items := s.flight.items
	s.flight = nil
	for _, it := range items {
		h := s.known.get(it.name)
		known, had := h != nil, h.have()
		switch {
		case it.record == nil && h.isNamed():
			h.has = false
		case it.record == nil:
			s.known.remove(it.name)
		case known:
			h.record, h.has = it.record, true
		case s.wildcard:
			s.known.put(holding{record: it.record, has: true})
		}
		if !known && s.wildcard { // dropped and wanted again meanwhile, when changes of it went unnoticed
			s.mark(it.name, mark{first: it.mark.first, last: it.mark.last})
		}
		if it.record != had { // not merely the last good one again
			delete(s.rejected, it.name)
		}
	}
}

// reject notes that the proxy refused the response in flight. It does not say reliably which resource it means, and it
// may have applied some: so the response is sent again in halves, until what is refused stands alone. That one is
// returned; it is not sent again until its content changes.
func (s *subscription) reject() (item, bool) {
	items := s.flight.items
	s.flight = nil
	if len(items) == 0 {
		return item{}, false
	}
	if len(items) > 1 {
		s.again(items[len(items)/2:])
		s.again(items[:len(items)/2])
		return item{}, false
	}
	it := items[0]
	if it.record == nil {
		return it, true
	}
	known := s.rejected[it.name] == it.record.Version
	s.rejected[it.name] = it.record.Version
	if have := s.known.get(it.name).have(); it.mark.awaited && have != nil && have.entry != nil && have != it.record {
		// What needed it anew, such as the changed cluster of refused endpoints, has nothing now: the last good one is
		// better.
		s.mark(it.name, mark{first: it.mark.first, last: it.mark.last, force: true})
	}
	return it, !known
}

// again makes one group of the items, to be sent before older groups.
func (s *subscription) again(items []item) {
	s.groups++
	for _, it := range items {
		it.mark.force, it.mark.group = true, s.groups
		s.mark(it.name, it.mark)
	}
}
