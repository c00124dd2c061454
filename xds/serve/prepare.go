package serve

import (
	"slices"
	"strconv"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// prepare looks at what is published and returns the responses that can be sent now, at most one per type. The store is
// locked meanwhile, so that they are of one moment, of which the mailbox has told everything.
func (s *stream) prepare() []*response {
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	s.hear()
	if !s.store.published {
		return nil
	}
	outstanding, waits := s.survey()
	ready := func(it item) bool {
		by, held := outstanding.holds(it)
		if held {
			waits.add(it.mark.first, by)
		}
		return !held
	}
	var responses []*response
	for i, sub := range s.surveyed { // and not s.subs: what is sent may begin another type
		if sub.flight != nil {
			continue
		}
		picked := pick(s.found[i], ready)
		if len(picked) > 0 || sub.unanswered && len(sub.dirty) == 0 {
			responses = append(responses, s.depart(sub, picked))
		}
	}
	clear(s.found) // a first sync's is large
	s.watch(waits)
	return responses
}

// hear marks what the changes in the mailbox are about.
func (s *stream) hear() {
	for _, c := range s.mail.take() {
		s.epoch = c.epoch
		w := &waiter{trackers: c.trackers} // of epoch 0: settled, unless the proxy is concerned
		for _, key := range c.keys {
			sub := s.find(key.Type)
			if sub == nil || !sub.wants(key.Name) {
				continue
			}
			sub.mark(key.Name, mark{first: c.epoch, last: c.epoch})
			w.epoch = c.epoch
			if r := s.store.resources[key.Type][key.Name]; r != nil && sub.rejected[key.Name] == r.Version {
				w.outcome = rejected // before now
			}
			w.outcome = max(w.outcome, acknowledged)
		}
		s.waiters = append(s.waiters, w)
	}
	// A proxy that answers nothing costs the changes of as long as somebody waits for it, not all there ever were.
	for len(s.waiters) > 0 && s.waiters[0].isOver() {
		s.waiters = s.waiters[1:]
	}
}

// survey finds what there is to send of each subscription, and returns what is outstanding altogether, and the wait for
// what the proxy has yet to ask for.
func (s *stream) survey() (outstanding backlog, waits wait) {
	outstanding, waits = newBacklog(s.passed), noWait
	s.surveyed, s.found = append(s.surveyed[:0], s.subs...), s.found[:0]
	for _, sub := range s.surveyed {
		own := rankOf(sub.typeURL, false)
		items, awaited := sub.settle(s.store.resources[sub.typeURL], s.passed[own])
		if awaited != never {
			outstanding.add(own, awaited)
			waits.add(awaited, own)
		}
		if sub.typeURL == resourcev3.ListenerType {
			s.advance(items)
		}
		outstanding.addItems(items)
		outstanding.addFlight(sub.flight)
		s.found = append(s.found, items)
	}
	s.settled = outstanding.oldest - 1
	if s.resumes() {
		outstanding.hold(provide, s.began)
	}
	return outstanding, waits
}

// resumes tells whether the proxy has reconnected and has not asked for clusters yet. Envoy asks for them last while one of
// those that it has is warming; until then nobody knows what others may refer to.
func (s *stream) resumes() bool {
	clusters := s.find(resourcev3.ClusterType)
	return (clusters == nil || !clusters.begun) && slices.ContainsFunc(s.subs, func(sub *subscription) bool { return sub.resumed })
}

// advance lets listeners go ahead of what they refer to. A new one warms until it has its routes, which it asks for and
// which are held back: so it can be on its way together with the clusters. One that refers to routes which the proxy has
// would use them at once. Nor may one go ahead of the removal of another, which may have had its address, or of a cluster
// without which Envoy refuses it.
func (s *stream) advance(listeners []item) {
	if slices.ContainsFunc(listeners, func(it item) bool { return it.record == nil }) {
		return
	}
	for i := range listeners {
		if r := listeners[i].record; !r.Eager && s.warms(r) {
			listeners[i].rank = provide
		}
	}
}

// warms tells whether the proxy will ask for something that the listener refers to.
func (s *stream) warms(listener *record) bool {
	return slices.ContainsFunc(listener.refs, func(ref envoy.Key) bool {
		sub := s.find(ref.Type)
		return sub == nil || !sub.wants(ref.Name)
	})
}

// depart makes a response of the items and puts it in flight. What a cluster or listener refers to is needed anew.
func (s *stream) depart(sub *subscription, items []item) *response {
	s.nonces++
	nonce := strconv.FormatUint(s.nonces, 10)
	sub.depart(nonce, items)
	for _, it := range items {
		if it.record == nil {
			continue
		}
		m := mark{first: it.mark.first, last: it.mark.last, force: true, awaited: true}
		for _, ref := range it.record.refs {
			s.ensure(ref.Type).mark(ref.Name, m)
		}
	}
	return &response{typeURL: sub.typeURL, nonce: nonce, version: strconv.FormatUint(s.epoch, 10), items: items}
}

// watch lets the deadline run for the wait.
func (s *stream) watch(w wait) {
	if w == s.waits {
		return
	}
	s.waits = w
	s.deadline.Stop()
	if w != noWait {
		s.deadline.Reset(s.patience)
	}
}

// expire ends the waiting for what is outstanding now of the rank that holds others back.
func (s *stream) expire() {
	if s.waits == noWait {
		return
	}
	s.passed[s.waits.by] = s.epoch
	s.waits = noWait
	s.hooks.expired()
}
