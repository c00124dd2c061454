package serve

import (
	"maps"
	"slices"
	"sync"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/types"
	cachev3 "github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// A record is a published resource with what every stream shares of it. It is not changed after it is made.
type record struct {
	envoy.Resource
	// entry is the resource as it stands in a response, encoded once. Nil for a version that the proxy says it has and
	// that is not published here.
	entry mem.BufferSlice
	size  int
	// refs are the resources that a proxy needs anew after it took this one: the endpoints of a cluster, the routes of
	// a listener.
	refs []envoy.Key
}

func newRecord(r envoy.Resource) *record {
	entry := encodeEntry(r)
	return &record{Resource: r, entry: entry, size: entry.Len(), refs: references(r)}
}

// references reads a cluster or listener for the endpoints or routes that it names.
func references(r envoy.Resource) []envoy.Key {
	var message proto.Message
	switch r.Type {
	case resourcev3.ClusterType:
		message = new(clusterv3.Cluster)
	case resourcev3.ListenerType:
		message = new(listenerv3.Listener)
	default:
		return nil
	}
	if proto.Unmarshal(r.Body.GetValue(), message) != nil {
		return nil // the proxy will refuse it and say why
	}
	var keys []envoy.Key
	named := cachev3.GetResourceReferences(map[string]types.ResourceWithTTL{r.Name: {Resource: message}})
	for typeURL, names := range named {
		for name := range names {
			keys = append(keys, envoy.Key{Type: typeURL, Name: name})
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

// A store holds what is published, and the streams that want to hear of changes. Its lock also guards their mailboxes:
// who holds it for reading sees resources and mailbox of the same moment.
type store struct {
	mu        sync.RWMutex
	published bool
	// begun is closed by the first publish.
	begun chan struct{}
	// epoch counts the changes; it starts above zero so that "before all of them" can be written as 0.
	epoch     uint64
	resources map[string]map[string]*record // type URL, name
	streams   map[*stream]struct{}
	// leaving are the resources that are to be removed, linger is how long they stay.
	leaving map[envoy.Key]*departure
	linger  time.Duration
}

func newStore(linger time.Duration) *store {
	return &store{
		begun: make(chan struct{}),
		epoch: 1, resources: map[string]map[string]*record{}, streams: map[*stream]struct{}{},
		leaving: map[envoy.Key]*departure{}, linger: linger,
	}
}

// publish makes the update visible and tells every stream which keys changed. Its cost is that of the update plus one
// pointer per stream: each stream looks at the keys itself.
func (s *store) publish(u Update, t *tracker) { s.commit(u, s.prepare(u.Set), t) }

// prepare encodes what is not published yet, which takes too long to do it under the lock of all streams.
func (s *store) prepare(set []envoy.Resource) []*record {
	records := make([]*record, 0, len(set))
	for _, r := range s.unpublished(set) {
		records = append(records, newRecord(r))
	}
	return records
}

func (s *store) commit(u Update, records []*record, t *tracker) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := !s.published
	s.published = true
	var now, later []envoy.Key
	for _, key := range u.Remove {
		if s.lingers(key) {
			later = append(later, key)
		} else {
			now = append(now, key)
		}
	}
	s.leave(later)
	if keys := s.apply(records, now); len(keys) > 0 || first {
		s.announce(keys, t)
	}
	if first {
		close(s.begun)
	}
}

// announce tells every stream of a change, for which t waits unless it is nil.
func (s *store) announce(keys []envoy.Key, t *tracker) {
	s.epoch++
	c := &change{epoch: s.epoch, keys: keys}
	if t != nil {
		c.trackers = []*tracker{t}
	}
	for st := range s.streams {
		if t != nil {
			t.join()
		}
		st.mail.put(c)
	}
}

// unpublished leaves out what is published already in the same version. From now on none of it departs: what is left out
// will not be set again.
func (s *store) unpublished(set []envoy.Resource) []envoy.Resource {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stay(set)
	return slices.DeleteFunc(slices.Clone(set), func(r envoy.Resource) bool {
		have := s.resources[r.Type][r.Name]
		return have != nil && have.Version == r.Version
	})
}

// apply changes the resources and returns the keys that are different now.
func (s *store) apply(records []*record, remove []envoy.Key) []envoy.Key {
	changed := map[envoy.Key]struct{}{}
	for _, key := range remove {
		if s.resources[key.Type][key.Name] == nil {
			continue
		}
		delete(s.resources[key.Type], key.Name)
		changed[key] = struct{}{}
	}
	for _, r := range records {
		byName := s.resources[r.Type]
		if byName == nil {
			byName = map[string]*record{}
			s.resources[r.Type] = byName
		}
		byName[r.Name] = r
		changed[r.Key] = struct{}{}
	}
	return slices.SortedFunc(maps.Keys(changed), compareKeys)
}

func (s *store) attach(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
	st.epoch, st.began = s.epoch, s.epoch
}

// detach forgets the stream and returns the changes that it had not looked at.
func (s *store) detach(st *stream) []*change {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	return st.mail.take()
}

// A change is what one Publish did. Streams share it.
type change struct {
	epoch    uint64
	keys     []envoy.Key
	trackers []*tracker
}

// maxMail bounds the changes that wait for one stream: a proxy that does not read costs the keys that there are, not
// the changes that were.
const maxMail = 256

// A mailbox holds the changes that a stream has not looked at. It is guarded by the store's lock: put needs it for
// writing, take for reading, because only the stream itself takes.
type mailbox struct {
	wake    chan struct{} // holds one token when there is something
	changes []*change
}

func (m *mailbox) put(c *change) {
	if len(m.changes) == maxMail {
		m.changes = []*change{merge(m.changes)}
	}
	m.changes = append(m.changes, c)
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

func (m *mailbox) take() []*change {
	changes := m.changes
	m.changes = nil
	return changes
}

// merge makes one change of several: the latest epoch, all keys once.
func merge(changes []*change) *change {
	merged := &change{epoch: changes[len(changes)-1].epoch}
	keys := map[envoy.Key]struct{}{}
	for _, c := range changes {
		for _, key := range c.keys {
			keys[key] = struct{}{}
		}
		for _, t := range c.trackers {
			if !t.isOver() {
				merged.trackers = append(merged.trackers, t)
			}
		}
	}
	merged.keys = slices.SortedFunc(maps.Keys(keys), compareKeys)
	return merged
}
