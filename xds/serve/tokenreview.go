package serve

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"golang.org/x/sync/singleflight"
	authenticationv1 "k8s.io/api/authentication/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
)

// Audience is the audience of the tokens that proxies present.
const Audience = "traffic-control"

const (
	// An accepted token is believed for a minute, so that reconnects after a restart do not become as many reviews; a
	// deleted pod's token is good for as long.
	acceptedFor = 60 * time.Second
	// A refused one is remembered for less: a pod may be newer than what the API server's cache has.
	refusedFor = 5 * time.Second
	// The caches are apart, so that a flood of bad tokens does not push out the good ones.
	acceptedTokens, refusedTokens = 8192, 1024
	// Tokens that are in neither cache are reviewed at this rate per second for each address, so that a pod that guesses does
	// not use up what the API server grants us. The burst is a node's pods behind one address.
	addressReviews, addressBurst = 20, 128
	// Of all addresses of an IPv6 /64, in which one pod may guess from each and thousands of good ones may reconnect, at this.
	networkReviews, networkBurst = 200, 2048

	// reviewsAtOnce bounds the reviews that run. A thousand proxies that reconnect wait here, and not at the API server, which
	// would take so long over all of them at once that each timed out and was asked again.
	reviewsAtOnce = 32
	// reviewsPerAddress and reviewsPerNetwork bound those of one source: when reviews take long, a pod that guesses would have
	// all others wait.
	reviewsPerAddress, reviewsPerNetwork = 8, 24
	reviewTimeout                        = 5 * time.Second
)

// Extra keys that the API server sets for a token that is bound to a pod.
const (
	podNameKey = "authentication.kubernetes.io/pod-name"
	podUIDKey  = "authentication.kubernetes.io/pod-uid"
)

// A TokenReviewer is the Authenticator that asks the API server. It takes only ServiceAccount tokens that are bound to a
// pod and meant for Audience. Tokens are kept as hashes.
type TokenReviewer struct {
	client   authenticationclient.TokenReviewInterface
	accepted *cache.LRUExpireCache
	refused  *cache.LRUExpireCache
	running  singleflight.Group
	// atOnce has room for the reviews that run, quotas for those of each source, in the order of these.
	atOnce  *semaphore.Weighted
	quotas  [2]quota
	reviews *prometheus.CounterVec
}

// A verdict is what is known of a token.
type verdict struct {
	id  Identity
	err error
}

var _ Authenticator = (*TokenReviewer)(nil)

// NewTokenReviewer returns a TokenReviewer that counts its reviews at registerer.
func NewTokenReviewer(client authenticationclient.TokenReviewInterface, registerer prometheus.Registerer) (*TokenReviewer, error) {
	reviews := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "traffic_control_token_reviews_total",
		Help: "Tokens of proxies that the API server was asked about, by result.",
	}, []string{"result"})
	if err := registerer.Register(reviews); err != nil {
		return nil, fmt.Errorf("register a metric: %w", err)
	}
	return &TokenReviewer{
		client:   client,
		accepted: cache.NewLRUExpireCache(acceptedTokens),
		refused:  cache.NewLRUExpireCache(refusedTokens),
		atOnce:   semaphore.NewWeighted(reviewsAtOnce),
		quotas: [2]quota{
			newQuota(addressReviews, addressBurst, reviewsPerAddress),
			newQuota(networkReviews, networkBurst, reviewsPerNetwork),
		},
		reviews: reviews,
	}, nil
}

// Authenticate asks the API server who the token belongs to, unless it was asked just now. Its error wraps ErrRefused if
// the token is not good, ErrOverload if the context's peer presents too many that are not known.
func (r *TokenReviewer) Authenticate(ctx context.Context, token string) (Identity, error) {
	key := sha256.Sum256([]byte(token))
	if v, ok := r.known(key); ok {
		return v.id, v.err
	}
	if err := r.awaitTurn(ctx); err != nil {
		return Identity{}, err
	}
	if v, ok := r.known(key); ok { // reviewed meanwhile, for another stream
		return v.id, v.err
	}
	// The review belongs to all who wait for it, so it does not end with the one who began it.
	result := r.running.DoChan(string(key[:]), func() (any, error) {
		id, err := r.review(context.WithoutCancel(ctx), token)
		r.remember(key, id, err)
		return id, err
	})
	select {
	case <-ctx.Done():
		return Identity{}, context.Cause(ctx)
	case got := <-result:
		id, _ := got.Val.(Identity)
		return id, got.Err
	}
}

// awaitTurn waits until one more unknown token of the peer may be reviewed.
func (r *TokenReviewer) awaitTurn(ctx context.Context) error {
	turn, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	for i, source := range sources(ctx) {
		err := r.quotas[i].rate.of(source).Wait(turn)
		switch {
		case err == nil:
		case ctx.Err() != nil:
			return context.Cause(ctx)
		default:
			return fmt.Errorf("%w: from %s: %w", ErrOverload, source, err)
		}
	}
	return nil
}

func (r *TokenReviewer) known(key [sha256.Size]byte) (verdict, bool) {
	v, ok := r.accepted.Get(key)
	if !ok {
		v, ok = r.refused.Get(key)
	}
	if !ok {
		return verdict{}, false
	}
	return v.(verdict), true
}

// remember caches an answer of the API server; that there was none is not one.
func (r *TokenReviewer) remember(key [sha256.Size]byte, id Identity, err error) {
	result := "error"
	switch {
	case err == nil:
		result = "accepted"
		r.accepted.Add(key, verdict{id: id}, acceptedFor)
	case errors.Is(err, ErrRefused):
		result = "refused"
		r.refused.Add(key, verdict{err: err}, refusedFor)
	}
	r.reviews.WithLabelValues(result).Inc()
}

func (r *TokenReviewer) review(ctx context.Context, token string) (Identity, error) {
	turn, done := context.WithTimeout(ctx, turnTimeout)
	defer done()
	for i, source := range sources(ctx) {
		q := r.quotas[i]
		running := q.running.of(source)
		if err := running.Acquire(turn, 1); err != nil {
			return Identity{}, fmt.Errorf("token review: %d others from %s did not end in time: %w", q.atOnce, source, err)
		}
		defer running.Release(1)
	}
	if err := r.atOnce.Acquire(turn, 1); err != nil {
		return Identity{}, fmt.Errorf("token review: %d others did not end in time: %w", reviewsAtOnce, err)
	}
	defer r.atOnce.Release(1)
	ctx, cancel := context.WithTimeout(ctx, reviewTimeout)
	defer cancel()
	answer, err := r.client.Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token, Audiences: []string{Audience}},
	}, metav1.CreateOptions{})
	if err != nil {
		return Identity{}, fmt.Errorf("token review: %w", err)
	}
	return identify(answer.Status)
}

// identify reads a review. The audience is checked here too: an API server with an authenticator that knows none answers
// without it.
func identify(s authenticationv1.TokenReviewStatus) (Identity, error) {
	if !s.Authenticated {
		return Identity{}, fmt.Errorf("%w by the API server: %s", ErrRefused, s.Error)
	}
	if !slices.Contains(s.Audiences, Audience) {
		return Identity{}, fmt.Errorf("%w: it is not meant for audience %s", ErrRefused, Audience)
	}
	account, ok := strings.CutPrefix(s.User.Username, "system:serviceaccount:")
	namespace, name, both := strings.Cut(account, ":")
	if !ok || !both || namespace == "" || name == "" {
		return Identity{}, fmt.Errorf("%w: %q is not a ServiceAccount", ErrRefused, s.User.Username)
	}
	pods, uids := s.User.Extra[podNameKey], s.User.Extra[podUIDKey]
	if len(pods) != 1 || len(uids) != 1 || pods[0] == "" || uids[0] == "" {
		return Identity{}, fmt.Errorf("%w: it is not bound to a pod", ErrRefused)
	}
	return Identity{
		Namespace:      namespace,
		ServiceAccount: name,
		Pod:            pods[0],
		UID:            uids[0],
		NodeID:         pods[0] + "." + namespace,
	}, nil
}
