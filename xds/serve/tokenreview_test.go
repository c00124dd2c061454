package serve

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	k8stesting "k8s.io/client-go/testing"
)

// good is the API server's answer for the token of pod reviews-1.
func good() authenticationv1.TokenReviewStatus {
	return authenticationv1.TokenReviewStatus{
		Authenticated: true,
		Audiences:     []string{Audience},
		User: authenticationv1.UserInfo{
			Username: "system:serviceaccount:shop:reviews",
			Extra: map[string]authenticationv1.ExtraValue{
				podNameKey:                               {"reviews-1"},
				podUIDKey:                                {"3b9f"},
				"authentication.kubernetes.io/node-name": {"node-1"},
			},
		},
	}
}

// An API is a fake API server that answers token reviews.
type api struct {
	mu      sync.Mutex
	answer  authenticationv1.TokenReviewStatus
	err     error
	block   chan struct{}
	reviews []authenticationv1.TokenReviewSpec
}

func (a *api) reviewer(t *testing.T) *TokenReviewer {
	t.Helper()
	client := fake.NewClientset()
	client.PrependReactor("create", "tokenreviews", func(action k8stesting.Action) (bool, runtime.Object, error) {
		review := action.(k8stesting.CreateAction).GetObject().(*authenticationv1.TokenReview)
		a.mu.Lock()
		a.reviews = append(a.reviews, review.Spec)
		answer, err, block := a.answer, a.err, a.block
		a.mu.Unlock()
		if block != nil {
			<-block
		}
		return true, &authenticationv1.TokenReview{ObjectMeta: metav1.ObjectMeta{}, Status: answer}, err
	})
	r, err := NewTokenReviewer(client.AuthenticationV1().TokenReviews(), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (a *api) set(answer authenticationv1.TokenReviewStatus, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.answer, a.err = answer, err
}

func (a *api) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.reviews)
}

func TestAnIdentityIsDerivedFromTheToken(t *testing.T) {
	a := &api{answer: good()}
	got, err := a.reviewer(t).Authenticate(t.Context(), "the token")
	if err != nil {
		t.Fatal(err)
	}
	want := Identity{Namespace: "shop", ServiceAccount: "reviews", Pod: "reviews-1", UID: "3b9f", NodeID: "reviews-1.shop"}
	if got != want {
		t.Errorf("identity %+v, want %+v", got, want)
	}
	if spec := a.reviews[0]; spec.Token != "the token" || len(spec.Audiences) != 1 || spec.Audiences[0] != "traffic-control" {
		t.Errorf("reviewed %+v", spec)
	}
}

func TestTokensThatAreNotGoodEnough(t *testing.T) {
	tests := map[string]func(*authenticationv1.TokenReviewStatus){
		"not authenticated": func(s *authenticationv1.TokenReviewStatus) {
			*s = authenticationv1.TokenReviewStatus{Error: "token has expired"}
		},
		"another audience":        func(s *authenticationv1.TokenReviewStatus) { s.Audiences = []string{"https://kubernetes.default.svc"} },
		"no audience":             func(s *authenticationv1.TokenReviewStatus) { s.Audiences = nil },
		"a user":                  func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "admin" },
		"a node":                  func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:node:node-1" },
		"an account without name": func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount:shop" },
		"an empty namespace":      func(s *authenticationv1.TokenReviewStatus) { s.User.Username = "system:serviceaccount::reviews" },
		"not bound to a pod":      func(s *authenticationv1.TokenReviewStatus) { s.User.Extra = nil },
		"pod without uid":         func(s *authenticationv1.TokenReviewStatus) { delete(s.User.Extra, podUIDKey) },
		"two pods":                func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[podNameKey] = []string{"a", "b"} },
		"empty pod":               func(s *authenticationv1.TokenReviewStatus) { s.User.Extra[podNameKey] = []string{""} },
	}
	for name, spoil := range tests {
		t.Run(name, func(t *testing.T) {
			answer := good()
			spoil(&answer)
			a := &api{answer: answer}
			id, err := a.reviewer(t).Authenticate(t.Context(), "token")
			if !errors.Is(err, ErrRefused) || id != (Identity{}) {
				t.Errorf("got %+v, %v, want it to be refused", id, err)
			}
		})
	}
}

// A thousand reconnects are not a thousand reviews, and yet a token is not believed for long.
func TestReviewsAreCached(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{answer: good()}
		r := a.reviewer(t)
		authenticate := func(token string, want bool, reviews int) {
			t.Helper()
			_, err := r.Authenticate(t.Context(), token)
			if got := err == nil; got != want {
				t.Errorf("%s: accepted is %v (%v), want %v", token, got, err, want)
			}
			if got := a.count(); got != reviews {
				t.Errorf("%d reviews, want %d", got, reviews)
			}
		}
		authenticate("one", true, 1)
		time.Sleep(59 * time.Second)
		a.set(authenticationv1.TokenReviewStatus{}, nil) // the pod is deleted
		authenticate("one", true, 1)
		authenticate("two", false, 2)
		time.Sleep(2 * time.Second)
		authenticate("two", false, 2)
		authenticate("one", false, 3)
		a.set(good(), nil)
		time.Sleep(refusedFor + time.Second)
		authenticate("two", true, 4)
		authenticate("one", true, 5)
	})
}

// An API server that is away lets nobody in, and nobody is locked out after it is back.
func TestAnAbsentAPIServerIsNotAnAnswer(t *testing.T) {
	a := &api{err: errors.New("connection refused")}
	r := a.reviewer(t)
	if id, err := r.Authenticate(t.Context(), "token"); err == nil || errors.Is(err, ErrRefused) || id != (Identity{}) {
		t.Errorf("got %+v, %v, want an error that is no refusal", id, err)
	}
	a.set(good(), nil)
	if _, err := r.Authenticate(t.Context(), "token"); err != nil {
		t.Error(err)
	}
	for result, want := range map[string]float64{"error": 1, "accepted": 1, "refused": 0} {
		if got := testutil.ToFloat64(r.reviews.WithLabelValues(result)); got != want {
			t.Errorf("reviews with result %s: %v, want %v", result, got, want)
		}
	}
}

// Streams that come at once with one token ask once; one that gives up takes nothing from the others.
func TestOneReviewForManyStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &api{answer: good(), block: make(chan struct{})}
		r := a.reviewer(t)
		impatient, cancel := context.WithCancel(t.Context())
		results := make(chan error, 11)
		go func() {
			_, err := r.Authenticate(impatient, "token")
			results <- err
		}()
		synctest.Wait()
		for range 10 {
			go func() {
				_, err := r.Authenticate(t.Context(), "token")
				results <- err
			}()
		}
		synctest.Wait()
		cancel()
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("the one that gave up got %v", err)
		}
		close(a.block)
		for range 10 {
			if err := <-results; err != nil {
				t.Error(err)
			}
		}
		if got := a.count(); got != 1 {
			t.Errorf("%d reviews, want 1", got)
		}
	})
}

// Guessing tokens neither fills the memory nor pushes out the good ones.
func TestTheCachesAreBounded(t *testing.T) {
	a := &api{answer: good()}
	r := a.reviewer(t)
	if _, err := r.Authenticate(t.Context(), "good"); err != nil {
		t.Fatal(err)
	}
	a.set(authenticationv1.TokenReviewStatus{}, nil)
	for i := range 3 * refusedTokens {
		_, _ = r.Authenticate(from(t, fmt.Sprintf("10.0.%d.%d:1", i/256, i%256)), fmt.Sprint("guess-", i))
	}
	if got := len(r.refused.Keys()); got != refusedTokens {
		t.Errorf("%d refused tokens are kept, want %d", got, refusedTokens)
	}
	if _, err := r.Authenticate(t.Context(), "good"); err != nil {
		t.Errorf("the good token: %v", err)
	}
	for _, key := range r.refused.Keys() {
		if strings.Contains(fmt.Sprintf("%s", key), "guess") {
			t.Fatal("a token is kept as it is, want its hash")
		}
	}
}

// A slowAPI is an API server that answers reviews when it is told to.
type slowAPI struct {
	authenticationclient.TokenReviewInterface
	answer  chan struct{}
	reviews atomic.Int32
}

// Create reviews a token.
func (a *slowAPI) Create(context.Context, *authenticationv1.TokenReview, metav1.CreateOptions) (*authenticationv1.TokenReview, error) {
	a.reviews.Add(1)
	<-a.answer
	return &authenticationv1.TokenReview{Status: good()}, nil
}

// A thousand proxies that reconnect do not ask the API server all at once, which answers none of so many in time.
func TestReviewsAtOnceAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &slowAPI{answer: make(chan struct{})}
		r, err := NewTokenReviewer(a, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		const proxies = 1000
		failed := make(chan error, proxies)
		for i := range proxies {
			go func() {
				_, err := r.Authenticate(from(t, fmt.Sprintf("10.0.%d.%d:1", i>>8, i&255)), fmt.Sprint("token", i))
				failed <- err
			}()
		}
		synctest.Wait()
		if n := a.reviews.Load(); n != reviewsAtOnce {
			t.Errorf("%d reviews run at once, want %d", n, reviewsAtOnce)
		}
		close(a.answer)
		for range proxies {
			if err := <-failed; err != nil {
				t.Fatal(err)
			}
		}
		if n := a.reviews.Load(); n != proxies {
			t.Errorf("%d reviews for %d tokens", n, proxies)
		}
	})
}

// While reviews take long, a pod that guesses tokens does not have the proxies of others wait behind its guesses.
func TestGuessesDoNotHoldUpOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &slowAPI{answer: make(chan struct{})}
		r, err := NewTokenReviewer(a, prometheus.NewRegistry())
		if err != nil {
			t.Fatal(err)
		}
		const guesses = 100
		done := make(chan error, guesses+1)
		authenticate := func(address, token string) {
			_, err := r.Authenticate(from(t, address), token)
			done <- err
		}
		for i := range guesses {
			go authenticate("10.0.0.1:1", fmt.Sprint("guess-", i))
		}
		synctest.Wait()
		before := a.reviews.Load()
		go authenticate("10.0.0.2:1", "another")
		synctest.Wait()
		if n := a.reviews.Load(); n != before+1 {
			t.Errorf("%d guesses are reviewed, and the other's token waits", n)
		}
		close(a.answer)
		for range guesses + 1 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
