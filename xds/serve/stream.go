package serve

import (
	"slices"
	"strings"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// maxTypes bounds the resource types of one stream. Envoy has about ten.
const maxTypes = 16

// mostAtOnce is how many requests are applied before the proxy is answered.
const mostAtOnce = 16

// A stream is the state of one proxy's connection, owned by the goroutine of its loop.
type stream struct {
	proxy Identity
	store *store
	mail  mailbox
	hooks hooks

	// subs are the types that the proxy subscribed to, or will for what it got, in typeOrder.
	subs []*subscription
	// surveyed and found are the latest survey: subscriptions, and for each what there is to send.
	surveyed []*subscription
	found    [][]item
	// epoch is the latest change that was looked at, began the one at which the stream did.
	epoch  uint64
	began  uint64
	nonces uint64
	// waiters are the updates that the proxy has not settled, settled is the change up to which all are.
	waiters []*waiter
	settled uint64
	// waits is what the deadline runs for. Up to passed, by rank, a deadline has ended the waiting.
	waits    wait
	passed   [ranks]uint64
	deadline *time.Timer
	patience time.Duration
}

// hooks are where a stream reports to.
type hooks struct {
	// refused is called for each response that the proxy refused, reject for each resource.
	refused func(typeURL string)
	reject  func(Rejection)
	// expired is called when a deadline ended the waiting for a lower rank.
	expired func()
}

func newStream(proxy Identity, st *store, patience time.Duration, h hooks) *stream {
	deadline := time.NewTimer(patience)
	deadline.Stop()
	return &stream{
		proxy:    proxy,
		store:    st,
		mail:     mailbox{wake: make(chan struct{}, 1)},
		hooks:    h,
		waits:    noWait,
		deadline: deadline,
		patience: patience,
	}
}

// errStopping is told to proxies that are to go to another replica.
var errStopping = status.Error(codes.Unavailable, "this replica of the control plane is stopping")

// loop runs until requests is closed, stop is, or something fails; it returns why.
func (s *stream) loop(requests <-chan *discoveryv3.DeltaDiscoveryRequest, stop <-chan struct{}, send func(*response) error) error {
	for {
		if err := s.flush(send); err != nil {
			return err
		}
		select {
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if err := s.receiveAll(req, requests); err != nil {
				return err
			}
		case <-s.mail.wake:
		case <-s.deadline.C:
			s.expire()
		case <-stop:
			return errStopping
		}
	}
}

// flush sends until there is nothing that can be sent now.
func (s *stream) flush(send func(*response) error) error {
	for {
		responses := s.prepare()
		s.release()
		if len(responses) == 0 {
			return nil
		}
		for _, r := range responses {
			if err := send(r); err != nil {
				return err
			}
		}
	}
}

// receiveAll applies a request and those that wait behind it: a proxy acknowledges and subscribes at once. They are few, so
// that one which sends without end gets its answers.
func (s *stream) receiveAll(req *discoveryv3.DeltaDiscoveryRequest, more <-chan *discoveryv3.DeltaDiscoveryRequest) error {
	for n := 0; ; n++ {
		if err := s.receive(req); err != nil || n == mostAtOnce {
			return err
		}
		select {
		case req = <-more:
			if req == nil {
				return nil // closed, which the loop finds out itself
			}
		default:
			return nil
		}
	}
}

// receive applies a request: the answer to a response, a change of the subscription, or both.
func (s *stream) receive(req *discoveryv3.DeltaDiscoveryRequest) error {
	if err := checkNode(s.proxy, req.GetNode()); err != nil {
		return err
	}
	typeURL := req.GetTypeUrl()
	if typeURL == "" || s.find(typeURL) == nil && len(s.subs) >= maxTypes {
		return status.Errorf(codes.InvalidArgument, "type_url %.80q is missing, or one too many", typeURL)
	}
	sub := s.ensure(typeURL)
	// Another nonce is stale: that response was answered already.
	if sub.flight != nil && sub.flight.nonce == req.GetResponseNonce() {
		s.answer(sub, req)
	}
	s.store.mu.RLock()
	defer s.store.mu.RUnlock()
	if err := s.checkNames(sub, req); err != nil {
		return err
	}
	sub.request(req, s.store.resources[typeURL], s.epoch)
	return nil
}

// answer applies the acknowledgement or rejection of the response in flight.
func (s *stream) answer(sub *subscription, req *discoveryv3.DeltaDiscoveryRequest) {
	refusal := req.GetErrorDetail()
	if refusal == nil {
		sub.acknowledge()
		return
	}
	s.hooks.refused(sub.typeURL)
	it, isolated := sub.reject()
	if !isolated {
		return
	}
	for _, w := range s.waiters {
		if it.mark.first <= w.epoch && w.epoch <= it.mark.last {
			w.outcome = rejected
		}
	}
	message := refusal.GetMessage()
	r := Rejection{Proxy: s.proxy, Message: strings.ToValidUTF8(message[:min(len(message), longestMessage)], "")}
	r.Key.Type, r.Key.Name = sub.typeURL, it.name
	if it.record != nil {
		r.Version, r.Owner = it.record.Version, it.record.Owner
		s.forgive(it.record)
	}
	s.hooks.reject(r)
}

// forgive stops waiting for what a refused cluster or listener would have made the proxy ask for.
func (s *stream) forgive(refused *record) {
	for _, ref := range refused.refs {
		if sub := s.find(ref.Type); sub != nil && !sub.wants(ref.Name) {
			delete(sub.dirty, ref.Name)
		}
	}
}

func (s *stream) find(typeURL string) *subscription {
	for _, sub := range s.subs {
		if sub.typeURL == typeURL {
			return sub
		}
	}
	return nil
}

// ensure returns the subscription of a type, a new one if there is none.
func (s *stream) ensure(typeURL string) *subscription {
	if sub := s.find(typeURL); sub != nil {
		return sub
	}
	sub := newSubscription(typeURL)
	at, _ := slices.BinarySearchFunc(s.subs, typeURL, func(sub *subscription, typeURL string) int {
		return compareTypes(sub.typeURL, typeURL)
	})
	s.subs = slices.Insert(s.subs, at, sub)
	return sub
}

// release reports the updates that the proxy has settled.
func (s *stream) release() {
	s.waiters = slices.DeleteFunc(s.waiters, func(w *waiter) bool {
		if w.epoch > s.settled {
			return false
		}
		w.finish()
		return true
	})
}

// abandon reports the updates that the proxy will not settle.
func (s *stream) abandon() {
	s.deadline.Stop()
	for _, c := range s.store.detach(s) {
		s.waiters = append(s.waiters, &waiter{epoch: c.epoch, trackers: c.trackers})
	}
	for _, w := range s.waiters {
		w.outcome = gone
		w.finish()
	}
	s.waiters = nil
}
