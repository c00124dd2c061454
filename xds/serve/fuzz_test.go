package serve

import (
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	statuspb "google.golang.org/genproto/googleapis/rpc/status"
	"pgregory.net/rapid"
)

// FuzzRequests sends what no proxy should: any request at any time, about responses that were never sent, and not the
// ones that were. Nothing panics, one response per type is in flight, and afterwards a proxy that asks properly on the
// same stream is served.
func FuzzRequests(f *testing.F) {
	f.Fuzz(rapid.MakeFuzz(hostileRequests))
}

func TestHostileRequests(t *testing.T) { rapid.Check(t, hostileRequests) }

func hostileRequests(t *rapid.T) {
	st := newStore(0)
	rejections := 0
	s := newStream(pod("a"), st, time.Hour, hooks{
		refused: func(string) {}, reject: func(Rejection) { rejections++ }, expired: func() {},
	})
	st.attach(s)
	m := &model{t: t, store: st, stream: s}
	names := rapid.SampledFrom([]string{"a", "b", "c", "*", "", "é|\x00", strings.Repeat("x", 300)})
	types := rapid.SampledFrom(append(slices.Clone(modelTypes), "type.googleapis.com/other", ""))
	lists := rapid.SliceOfN(names, 0, 4)
	sent := map[string]string{} // nonce in flight, by type
	turn := func() {
		_ = s.flush(func(r *response) error {
			if sent[r.typeURL] != "" {
				t.Fatalf("two responses of %s are in flight", r.typeURL)
			}
			sent[r.typeURL] = r.nonce
			return nil
		})
	}
	t.Repeat(map[string]func(*rapid.T){
		"publish": func(*rapid.T) { st.publish(m.randomUpdate(), newTracker(func(Applied) {})) },
		"expire":  func(*rapid.T) { s.expire() },
		"server":  func(*rapid.T) { turn() },
		"request": func(t *rapid.T) {
			req := &discoveryv3.DeltaDiscoveryRequest{
				TypeUrl:                  types.Draw(t, "type"),
				ResourceNamesSubscribe:   lists.Draw(t, "subscribe"),
				ResourceNamesUnsubscribe: lists.Draw(t, "unsubscribe"),
				InitialResourceVersions:  rapid.MapOfN(names, rapid.Just("some version"), 0, 3).Draw(t, "versions"),
				ResponseNonce:            rapid.SampledFrom([]string{"", "1", "2", "nonsense", sent[clusters], sent[routes]}).Draw(t, "nonce"),
			}
			if rapid.Bool().Draw(t, "error") {
				req.ErrorDetail = &statuspb.Status{Message: "no"}
			}
			if req.ResponseNonce != "" && req.ResponseNonce == sent[req.TypeUrl] {
				sent[req.TypeUrl] = ""
			}
			if err := s.receive(req); (err != nil) != (req.TypeUrl == "") {
				t.Fatalf("receive: %v", err)
			}
			turn()
		},
	})
	s.settleAll(t, sent)
	if err := s.receive(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: routes, ResourceNamesSubscribe: []string{"asked for properly"}}); err != nil {
		t.Fatal(err)
	}
	st.publish(set(route("asked for properly", 1)), newTracker(func(Applied) {}))
	if !slices.Contains(s.settleAll(t, sent), "asked for properly") {
		t.Fatal("a proper request is not answered")
	}
	s.abandon()
}

// settleAll acknowledges, and lets deadlines pass, until there is nothing to send. It returns the names that were sent.
func (s *stream) settleAll(t *rapid.T, sent map[string]string) (names []string) {
	idle := 0
	for range 1000 {
		_ = s.flush(func(r *response) error {
			sent[r.typeURL] = r.nonce
			for _, it := range r.items {
				names = append(names, it.name)
			}
			return nil
		})
		busy := false
		for typeURL, nonce := range sent {
			if nonce == "" {
				continue
			}
			busy = true
			sent[typeURL] = ""
			if err := s.receive(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: nonce}); err != nil {
				t.Fatal(err)
			}
		}
		if busy {
			idle = 0
			continue
		}
		if idle++; idle > ranks {
			return names
		}
		s.expire()
	}
	t.Fatal("the stream never comes to rest")
	return nil
}
