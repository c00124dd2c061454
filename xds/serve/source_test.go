package serve

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
	authenticationv1 "k8s.io/api/authentication/v1"
)

// from is the context of a stream from an address.
func from(t *testing.T, address string) context.Context {
	t.Helper()
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return peer.NewContext(t.Context(), &peer.Peer{Addr: net.TCPAddrFromAddrPort(at)})
}

// guess presents that many unknown tokens at once, each from an address of its own; overloads waits for all, and counts those
// that were told of an overload.
func guess(t *testing.T, r *TokenReviewer, guesses int, address func(int) string) (overloads func() int) {
	t.Helper()
	results := make(chan error, guesses)
	for i := range guesses {
		go func() {
			_, err := r.Authenticate(from(t, address(i)), fmt.Sprint("guess-", i))
			results <- err
		}()
	}
	return func() (n int) {
		for range guesses {
			if errors.Is(<-results, ErrOverload) {
				n++
			}
		}
		return n
	}
}

// ofOneNetwork is the i-th address of an IPv6 /64.
func ofOneNetwork(i int) string { return fmt.Sprintf("[2001:db8:1:2::%x]:1000", 1+i) }

// Whoever opens streams without proving anything takes no turn from the proxies.
func TestStrangersTakeNoTurns(t *testing.T) {
	s := startServer(t, func(c *Config) { c.NewStreams = 1.0 / 3600 }) // one turn
	s.Publish(set(route("r", 1)), nil)
	for range 5 {
		stranger := s.open(t, s.dial(t, s.tls()), "a", "Bearer x")
		if code := stranger.ended(); code != codes.Unauthenticated {
			t.Fatalf("a stranger's stream ended with %v", stranger.err)
		}
	}
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
}

// A pod that opens streams without end is told so before it waits for a turn, in which others would wait behind it.
func TestOnePodDoesNotFillTheQueue(t *testing.T) {
	s := startServer(t, func(c *Config) { c.NewStreams, c.StreamsPerPod = 1.0/3600, 1 })
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")
	second := s.connect(t, "a")
	if code := second.ended(); code != codes.ResourceExhausted {
		t.Errorf("status %v, want %v", second.err, codes.ResourceExhausted)
	}
}

// A pod that guesses tokens asks the API server little, and takes nothing from others: not from other addresses, and not
// from those at its own whose token is known.
func TestReviewsPerSourceAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{answer: good()}
		r := a.reviewer(t)
		if _, err := r.Authenticate(from(t, "10.0.0.1:999"), "known"); err != nil {
			t.Fatal(err)
		}
		a.set(authenticationv1.TokenReviewStatus{}, nil)
		const guesses = 1000
		overloads := guess(t, r, guesses, func(i int) string { return fmt.Sprintf("10.0.0.1:%d", 1000+i) })
		synctest.Wait()
		if got := a.count(); got > 200 {
			t.Errorf("%d reviews at once", got)
		}
		began := time.Now()
		a.set(good(), nil)
		for address, token := range map[string]string{"10.0.0.2:1000": "another", "10.0.0.1:1000": "known"} {
			if _, err := r.Authenticate(from(t, address), token); err != nil {
				t.Errorf("%s with %s: %v", address, token, err)
			}
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("others waited %v", took)
		}
		overload := overloads()
		if took, most := time.Since(began), turnTimeout; took > most {
			t.Errorf("it took %v, want at most %v", took, most)
		}
		if got, most := a.count(), 400; got > most || overload < guesses-most {
			t.Errorf("%d reviews in ten seconds, want at most %d; %d were told of the overload", got, most, overload)
		}
	})
}

// The overload is the caller's, not the token's: it may try again.
func TestAnOverloadIsNoRefusal(t *testing.T) {
	s := startServer(t, func(c *Config) { c.Authenticator = overloaded{} })
	p := s.connect(t, "a")
	if code := p.ended(); code != codes.Unavailable {
		t.Errorf("status %v, want %v", p.err, codes.Unavailable)
	}
	s.wantRefused(t, "overload")
}

type overloaded struct{}

func (overloaded) Authenticate(context.Context, string) (Identity, error) {
	return Identity{}, fmt.Errorf("%w: wait", ErrOverload)
}

// An IPv6 pod may have a /64 for itself, and connect from each of its addresses; or share one with a thousand others.
func TestSources(t *testing.T) {
	for address, want := range map[string][]string{
		"10.0.0.1:1":              {"10.0.0.1"},
		"[::ffff:10.0.0.1]:2":     {"10.0.0.1"},
		"[2001:db8:1:2:3::4]:1":   {"2001:db8:1:2:3::4", "2001:db8:1:2::/64"},
		"[2001:db8:1:2:ffff::]:1": {"2001:db8:1:2:ffff::", "2001:db8:1:2::/64"},
		"[fe80::1%eth0]:1":        {"fe80::1", "fe80::/64"},
	} {
		if got := sources(from(t, address)); !slices.Equal(got, want) {
			t.Errorf("sources of %s are %q, want %q", address, got, want)
		}
	}
	if got := sources(t.Context()); !slices.Equal(got, []string{""}) {
		t.Errorf("sources of nobody are %q", got)
	}
}

// All pods of a cloud's IPv6 subnet are of one /64: after a restart of the control plane each is let in.
func TestAThousandGoodProxiesOfOneNetwork(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{answer: good()}
		r := a.reviewer(t)
		results := make(chan error)
		const proxies = 1000
		for i := range proxies {
			go func() {
				_, err := r.Authenticate(from(t, ofOneNetwork(i)), fmt.Sprint("token-", i))
				results <- err
			}()
		}
		for range proxies {
			if err := <-results; err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A pod that guesses from every address that it has leaves room for reviews of others.
func TestOneNetworkIsLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{answer: good()}
		r := a.reviewer(t)
		const guesses = 10_000
		overloads := guess(t, r, guesses, ofOneNetwork)
		overload := overloads()
		if got, most := a.count(), networkBurst+networkReviews*11; got > most || overload < guesses-most {
			t.Errorf("%d reviews in ten seconds, want at most %d; %d were told of the overload", got, most, overload)
		}
	})
}

// Many sources do not fill the memory; one that goes on keeps its limit.
func TestLimitersAreBounded(t *testing.T) {
	l := newLimiters(1, 1)
	busy := l.of("busy")
	for i := range 3 * mostRecent {
		l.of(fmt.Sprint(i))
		if l.of("busy") != busy {
			t.Fatalf("the limit is forgotten after %d others", i)
		}
	}
	if got := len(l.cache.Keys()); got != mostRecent {
		t.Errorf("%d limiters are kept, want %d", got, mostRecent)
	}
}

// A flood of refused streams is counted, but does not fill the disk.
func TestRefusalsInTheLogAreLimited(t *testing.T) {
	s := startServer(t)
	for range 10_000 {
		_ = s.refuse(t.Context(), errNoToken)
		s.refuseConnection(&net.TCPAddr{}, errors.New("no"))
	}
	if got := testutil.ToFloat64(s.metrics.refusals.WithLabelValues("no_token")); got != 10_000 {
		t.Errorf("%v refusals are counted", got)
	}
	if got := strings.Count(s.log.String(), "\n"); got < refusalLinesBurst || got > 5*refusalLinesBurst {
		t.Errorf("%d lines in the log", got)
	}
}
