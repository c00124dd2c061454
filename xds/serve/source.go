package serve

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"
	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	// mostRecent bounds the memory that strangers can have us use.
	mostRecent = 4096
	// recentIdle is for how long what is not used is kept. By then a limiter would let a whole burst pass again.
	recentIdle = 10 * time.Minute
)

// A recent keeps one thing for each key of those that were seen last.
type recent[T any] struct {
	fresh func() T

	mu    sync.Mutex
	cache *cache.LRUExpireCache
}

func newRecent[T any](fresh func() T) *recent[T] {
	return &recent[T]{fresh: fresh, cache: cache.NewLRUExpireCache(mostRecent)}
}

func (r *recent[T]) of(key string) T {
	r.mu.Lock()
	defer r.mu.Unlock()
	thing, ok := r.cache.Get(key)
	if !ok {
		thing = r.fresh()
	}
	r.cache.Add(key, thing, recentIdle)
	return thing.(T)
}

// limiters are one rate limiter for each key.
type limiters = recent[*rate.Limiter]

func newLimiters(limit rate.Limit, burst int) *limiters {
	return newRecent(func() *rate.Limiter { return rate.NewLimiter(limit, burst) })
}

// A quota bounds the reviews of tokens that are asked for from one source.
type quota struct {
	rate    *limiters
	running *recent[*semaphore.Weighted]
	atOnce  int64
}

func newQuota(perSecond rate.Limit, burst int, atOnce int64) quota {
	return quota{
		rate: newLimiters(perSecond, burst), atOnce: atOnce,
		running: newRecent(func() *semaphore.Weighted { return semaphore.NewWeighted(atOnce) }),
	}
}

// sources are the address of a stream's peer and, for IPv6, its /64: a pod may have every address of one, and so may all
// nodes of a subnet.
func sources(ctx context.Context) []string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return []string{""}
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return []string{p.Addr.String()} // a listener within the process
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return []string{ip.String()}
	}
	return []string{ip.String(), netip.PrefixFrom(ip, 64).Masked().String()}
}
