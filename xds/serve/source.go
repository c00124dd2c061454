package serve

import (
	"context"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/peer"
	"k8s.io/apimachinery/pkg/util/cache"
)

const (
	// mostLimiters bounds the memory that strangers can have us use.
	mostLimiters = 4096
	// limiterIdle is for how long a limiter is kept that is not used. By then it would let a whole burst pass again.
	limiterIdle = 10 * time.Minute
)

// limiters are one rate limiter for each key of those that were seen last.
type limiters struct {
	limit rate.Limit
	burst int

	mu    sync.Mutex
	cache *cache.LRUExpireCache
}

func newLimiters(limit rate.Limit, burst int) *limiters {
	return &limiters{limit: limit, burst: burst, cache: cache.NewLRUExpireCache(mostLimiters)}
}

func (l *limiters) of(key string) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter, ok := l.cache.Get(key)
	if !ok {
		limiter = rate.NewLimiter(l.limit, l.burst)
	}
	l.cache.Add(key, limiter, limiterIdle)
	return limiter.(*rate.Limiter)
}

// source is the address of a stream's peer, or for IPv6 its /64, of which a pod may have every address.
func source(ctx context.Context) string {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return p.Addr.String() // a listener within the process
	}
	ip := at.Addr().Unmap().WithZone("")
	if ip.Is4() {
		return ip.String()
	}
	return netip.PrefixFrom(ip, 64).Masked().String()
}
