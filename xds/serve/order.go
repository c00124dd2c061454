package serve

import (
	"cmp"
	"math"
	"slices"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
)

// A rank orders what a change sends: nothing of a rank is sent before the proxy has what the change has of lower ranks, or
// will have it when it reads on, or a deadline has passed.
type rank int

const (
	// provide is what others refer to: clusters, endpoints, secrets. Listeners that warm are of it too, see warms.
	provide rank = iota
	// refer is what refers to it: routes and listeners, removed listeners too.
	refer
	// withdraw is what nobody refers to any more: removals of the rest.
	withdraw

	ranks = iota
)

// rankOf is the rank of setting a resource, or of withdrawing one that the proxy has. Envoy takes removed listeners away
// before it adds the others of the same response, so an address can pass from one listener to another.
func rankOf(typeURL string, withdrawn bool) rank {
	switch {
	case typeURL == resourcev3.ListenerType:
		return refer
	case withdrawn:
		return withdraw
	case typeURL == resourcev3.RouteType:
		return refer
	default:
		return provide
	}
}

// typeOrder is the order in which types are sent where ranks leave a choice: endpoints after their cluster, which needs
// them anew, and routes after their listener.
var typeOrder = []string{
	resourcev3.ClusterType,
	resourcev3.EndpointType,
	resourcev3.SecretType,
	resourcev3.ListenerType,
	resourcev3.RouteType,
}

func compareTypes(a, b string) int {
	place := func(typeURL string) int {
		if i := slices.Index(typeOrder, typeURL); i >= 0 {
			return i
		}
		return len(typeOrder)
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), cmp.Compare(a, b))
}

// never is later than every epoch.
const never = math.MaxUint64

// A backlog is what is outstanding.
type backlog struct {
	// low is for each rank the oldest change of which something holds back higher ranks: it is unsent, awaited, or in flight
	// and unsure, but for what is waited for no longer.
	low    [ranks]uint64
	passed [ranks]uint64
	// oldest is the oldest of all that is unsent, awaited or unacknowledged.
	oldest uint64
}

func newBacklog(passed [ranks]uint64) backlog {
	return backlog{low: [ranks]uint64{never, never, never}, passed: passed, oldest: never}
}

func (b *backlog) add(r rank, epoch uint64) {
	b.oldest = min(b.oldest, epoch)
	b.hold(r, epoch)
}

// hold holds back the ranks above.
func (b *backlog) hold(r rank, epoch uint64) {
	if epoch > b.passed[r] {
		b.low[r] = min(b.low[r], epoch)
	}
}

func (b *backlog) addItems(items []item) {
	for i := range items {
		b.add(items[i].rank, items[i].mark.first)
	}
}

func (b *backlog) addFlight(f *flight) {
	if f == nil {
		return
	}
	several := f.several()
	for i := range f.items {
		it := &f.items[i]
		b.oldest = min(b.oldest, it.mark.first)
		switch {
		case f.typeURL == resourcev3.ListenerType || f.typeURL == resourcev3.RouteType:
			b.hold(refer, it.mark.first)
		case several || f.typeURL == resourcev3.ClusterType && it.record != nil && len(it.record.refs) == 0:
			b.hold(it.rank, it.mark.first)
		}
	}
}

// several tells whether the response sets more than one resource. Envoy reads a stream in order, so that what comes after a
// response finds it done, but for
//   - several resources, of which a refused one keeps the others from being taken until they are sent again,
//   - clusters that find their endpoints by themselves, such as in DNS, and warm until then,
//   - routes and listeners where something is withdrawn: a refused one stays as it was, and uses what it used.
//
// What Envoy has to ask for first, such as the endpoints of a cluster, is awaited.
func (f *flight) several() bool {
	set := 0
	for i := range f.items {
		if f.items[i].record != nil {
			set++
		}
	}
	return set > 1
}

// holds tells whether an item must wait, and for which rank: the lowest that is behind what the item stands for.
func (b *backlog) holds(it item) (by rank, held bool) {
	for lower := range it.rank {
		if b.low[lower] <= it.mark.last {
			return lower, true
		}
	}
	return 0, false
}

// A wait is what a deadline runs for: something of change since is held back until rank by is done.
type wait struct {
	since uint64
	by    rank
}

var noWait = wait{since: never, by: ranks}

func (w *wait) add(since uint64, by rank) { w.since, w.by = min(w.since, since), min(w.by, by) }

// settle drops the dirty names that need nothing. It returns an item for each of the others, and the oldest change of
// which something is awaited but not asked for yet. What is awaited of changes up to passed is given up.
func (s *subscription) settle(published map[string]*record, passed uint64) (items []item, awaited uint64) {
	awaited = never
	if len(s.dirty) == 0 {
		return nil, never
	}
	defer s.shrink()
	items = make([]item, 0, len(s.dirty))
	for name, m := range s.dirty {
		if !s.wants(name) {
			if m.awaited && m.first > passed && published[name] != nil {
				awaited = min(awaited, m.first)
			} else {
				delete(s.dirty, name)
			}
			continue
		}
		it, send := s.resolve(name, m, published[name])
		if !send && s.flight == nil { // else what the proxy has is open until it answers
			delete(s.dirty, name)
			continue
		}
		items = append(items, it)
	}
	return items, awaited
}

// resolve decides what the proxy must be sent for a name, if anything.
func (s *subscription) resolve(name string, m mark, published *record) (it item, send bool) {
	have := s.known.get(name).have()
	it = item{name: name, mark: m, record: published, rank: rankOf(s.typeURL, published == nil && have != nil)}
	if published == nil {
		delete(s.rejected, name)
		return it, have != nil || m.force
	}
	if refused, ok := s.rejected[name]; ok && refused == published.Version {
		// Asked again for what it refused, the proxy gets what it took before, if that is still here.
		if have != nil && have.entry != nil {
			it.record = have
		}
		return it, m.force
	}
	return it, m.force || have == nil || have.Version != published.Version
}

// pick chooses what goes into the next response, sorted by name: the latest group, nothing that must wait, no more than
// fits. It reorders items.
func pick(items []item, ready func(item) bool) []item {
	group, size := 0, 0
	for _, it := range items {
		group = max(group, it.mark.group)
	}
	items = slices.DeleteFunc(items, func(it item) bool { return it.mark.group != group || !ready(it) })
	slices.SortFunc(items, func(a, b item) int { return cmp.Compare(a.name, b.name) })
	for i, it := range items {
		if size += it.size(); size > maxResponse && i > 0 {
			return items[:i]
		}
	}
	return items
}
