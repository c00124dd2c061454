package envoy

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A Snapshot is the resources of a mesh, kept current change by change. It is owned by one goroutine.
type Snapshot struct {
	translator *Translator
	ports      map[mesh.Object]map[uint16][]Resource
	// held has each resource with the owner whose it is: a listener passes to another with its address.
	held map[Key]Resource
	// users counts the ports that refer to a shared resource, which is there as long as there are any.
	users map[Key]int
}

// A Failure is a port that could not be translated: it keeps the resources that it had.
type Failure struct {
	Owner mesh.Object
	Port  uint16
	Err   error
}

func (f Failure) Error() string { return fmt.Sprintf("port %d of %s: %v", f.Port, f.Owner, f.Err) }

func (f Failure) Unwrap() error { return f.Err }

// NewSnapshot returns the snapshot of a mesh in which no port is open.
func NewSnapshot(t *Translator) *Snapshot {
	return &Snapshot{translator: t, ports: map[mesh.Object]map[uint16][]Resource{}, held: map[Key]Resource{}, users: map[Key]int{}}
}

// Apply brings the snapshot to the changed ports and returns what is different.
func (s *Snapshot) Apply(changes []mesh.PortChange) (Update, []Failure) {
	// All that is new is made before anything is given up: what one owner loses, another may have got.
	next, failures := s.translate(changes)
	removed := map[Key]bool{}
	for owner := range next {
		for _, r := range resourcesOf(s.ports[owner]) {
			if s.release(owner, r) {
				removed[r.Key] = true
			}
		}
	}
	var update Update
	for _, change := range changes {
		for _, r := range resourcesOf(next[change.Owner]) {
			delete(removed, r.Key)
			if r.shared() {
				s.users[r.Key]++
			}
			if held := s.held[r.Key]; held.Version != r.Version || held.Owner != r.Owner {
				s.held[r.Key] = r
				update.Set = append(update.Set, r)
			}
		}
		s.ports[change.Owner] = next[change.Owner]
		if len(change.Ports) == 0 {
			delete(s.ports, change.Owner)
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(removed), Key.compare) {
		delete(s.held, key)
		delete(s.users, key)
		update.Remove = append(update.Remove, key)
	}
	return update, failures
}

// release gives up a resource of a port and reports whether it was the last to have it.
func (s *Snapshot) release(owner mesh.Object, r Resource) bool {
	if r.shared() {
		s.users[r.Key]--
		return s.users[r.Key] == 0
	}
	return s.held[r.Key].Owner == owner
}

// translate returns the resources of each owner by port. A port that cannot be translated keeps what it had and
// nobody else got.
func (s *Snapshot) translate(changes []mesh.PortChange) (map[mesh.Object]map[uint16][]Resource, []Failure) {
	var (
		next     = make(map[mesh.Object]map[uint16][]Resource, len(changes))
		taken    = map[Key]bool{}
		failures []Failure
	)
	for _, change := range changes {
		next[change.Owner] = make(map[uint16][]Resource, len(change.Ports))
		for _, p := range change.Ports {
			resources, err := s.translator.port(p, s.held)
			if err != nil {
				failures = append(failures, Failure{Owner: change.Owner, Port: p.Number, Err: err})
			}
			for _, r := range resources {
				taken[r.Key] = true
			}
			next[change.Owner][p.Number] = resources
		}
	}
	for _, f := range failures {
		for _, r := range s.ports[f.Owner][f.Port] {
			if r.shared() || !taken[r.Key] && s.held[r.Key].Owner == f.Owner {
				next[f.Owner][f.Port] = append(next[f.Owner][f.Port], r)
			}
		}
	}
	return next, failures
}

// resourcesOf returns the resources of all ports, in their order.
func resourcesOf(ports map[uint16][]Resource) []Resource {
	var all []Resource
	for _, number := range slices.Sorted(maps.Keys(ports)) {
		all = append(all, ports[number]...)
	}
	return all
}
