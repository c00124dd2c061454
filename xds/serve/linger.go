package serve

import (
	"slices"
	"time"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// Linger is a good Config.Linger: requests are at their cluster long before it is over, and a port that was closed is also
// closed for connections that clients keep.
const Linger = time.Second

// A departure is resources that are to be removed together when they have lingered.
type departure struct{ keys []envoy.Key }

// lingers tells whether a removal waits. A listener takes no connection after its removal; but those that it took before
// go on, and look for routes, clusters and endpoints with each request.
func (s *store) lingers(key envoy.Key) bool {
	return s.linger > 0 && key.Type != resourcev3.ListenerType
}

// leave removes resources later, unless they are set again before. The store is locked.
func (s *store) leave(keys []envoy.Key) {
	keys = slices.DeleteFunc(keys, func(key envoy.Key) bool { return s.resources[key.Type][key.Name] == nil })
	if len(keys) == 0 {
		return
	}
	d := &departure{keys}
	for _, key := range keys {
		s.leaving[key] = d
	}
	time.AfterFunc(s.linger, func() { s.depart(d) })
}

// stay forgets that resources were to be removed. The store is locked.
func (s *store) stay(set []envoy.Resource) {
	for _, r := range set {
		delete(s.leaving, r.Key)
	}
}

// depart removes what has lingered. Nobody waits for it.
func (s *store) depart(d *departure) {
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := slices.DeleteFunc(d.keys, func(key envoy.Key) bool { return s.leaving[key] != d })
	for _, key := range keys {
		delete(s.leaving, key)
	}
	if left := s.apply(nil, keys); len(left) > 0 {
		s.announce(left, nil)
	}
}
