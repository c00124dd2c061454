package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/keepalive"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// A Config says how a Server identifies its proxies and where it reports. Zero values of optional fields take the
// default that each names.
type Config struct {
	// Authenticator tells who a token belongs to. Required.
	Authenticator Authenticator
	// CertFile and KeyFile are PEM files of the server's certificate chain and private key, read again for each
	// handshake, so that a renewed certificate serves the next. Required.
	CertFile, KeyFile string
	// GatewayAccount is the ServiceAccount of the ingress gateway's pods, as "namespace/name"; empty for no gateway.
	GatewayAccount string
	// Registerer takes the metrics, all named traffic_control_*. Required.
	Registerer prometheus.Registerer
	// Logger gets one line per connect, disconnect, refusal and rejection, of the last two only so many per second; default
	// slog.Default().
	Logger *slog.Logger
	// OnReject is called once for each resource that a proxy refused, on that proxy's goroutine: it must not block. Of a
	// sidecar that refuses very many it hears of the first 20, then of 6 a minute; of a gateway, of all.
	OnReject func(Rejection)
	// NewStreams limits how many identified streams are admitted per second, on average; default 200, with bursts of as many.
	// A stream above it waits, and is told to come back later when the wait would be long.
	NewStreams rate.Limit
	// StreamsPerPod is how many streams one pod may have at once; default 4.
	StreamsPerPod int
	// Patience is how long a change waits for a proxy to confirm what it depends on, before it is sent all the same;
	// default 2 s.
	Patience time.Duration
	// Linger is how long what a listener used stays after an update that removes it, for requests that are on their way; 0
	// is not at all.
	Linger time.Duration
	// Late is how long Publish waits for the answers of proxies before it reports without them; default 30 s.
	Late time.Duration
}

const (
	defaultNewStreams = 200
	defaultPatience   = 2 * time.Second
	defaultLate       = 30 * time.Second

	// maxRequest holds the versions of all that a reconnecting proxy has, in one request.
	maxRequest = 32 << 20
	// requestWindow is what a proxy may send before it is read, which is when its turn has come: a thousand wait at a time.
	requestWindow = 64 << 10
	// readBuffer is of each connection, for requests that but for the first are of a hundred bytes.
	readBuffer = 4 << 10
	// maxHeaders holds a token several times.
	maxHeaders = 64 << 10
	// maxStreams is per connection; an Envoy opens one.
	maxStreams = 8
	// handshakeTimeout is for TLS and the HTTP/2 preface.
	handshakeTimeout = 10 * time.Second
	// stopTimeout is for connections to end after their streams were told to.
	stopTimeout = 5 * time.Second
)

// A Server is a delta ADS server: it keeps the published resources and brings every connected proxy to them.
type Server struct {
	config      Config
	certificate *certificate
	metrics     *metrics
	// store is what sidecars get, gatewayStore what gateways get.
	store, gatewayStore *store
	newStreams          *rate.Limiter
	// refusals limits the log lines about them.
	refusals *rate.Limiter
	// rejections limits those of each pod.
	rejections *limiters
	census     census
	grpc       *grpc.Server
	// stop is closed when streams are to end.
	stop chan struct{}
}

// New returns a Server that has published nothing yet. The error names the field of Config that is missing or wrong.
func New(c Config) (*Server, error) {
	s, err := newServer(c)
	if err != nil {
		return nil, fmt.Errorf("xDS server: %w", err)
	}
	return s, nil
}

func newServer(c Config) (*Server, error) {
	switch {
	case c.Authenticator == nil:
		return nil, errors.New("missing Authenticator")
	case c.Registerer == nil:
		return nil, errors.New("missing Registerer")
	case c.NewStreams < 0:
		return nil, fmt.Errorf("negative NewStreams %v", c.NewStreams)
	case c.Patience < 0:
		return nil, fmt.Errorf("negative Patience %v", c.Patience)
	case c.Linger < 0:
		return nil, fmt.Errorf("negative Linger %v", c.Linger)
	case c.Late < 0:
		return nil, fmt.Errorf("negative Late %v", c.Late)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.OnReject == nil {
		c.OnReject = func(Rejection) {}
	}
	if c.NewStreams == 0 {
		c.NewStreams = defaultNewStreams
	}
	if c.Patience == 0 {
		c.Patience = defaultPatience
	}
	if c.Late == 0 {
		c.Late = defaultLate
	}
	pair, err := newCertificate(c.CertFile, c.KeyFile, c.Logger)
	if err != nil {
		return nil, err
	}
	m, err := newMetrics(c.Registerer, pair)
	if err != nil {
		return nil, fmt.Errorf("registry: %w", err)
	}
	s := &Server{
		config:      c,
		certificate: pair,
		metrics:     m,
		store:       newStore(c.Linger), gatewayStore: newStore(c.Linger),
		newStreams: rate.NewLimiter(c.NewStreams, max(1, int(c.NewStreams))),
		refusals:   rate.NewLimiter(refusalLines, refusalLinesBurst),
		rejections: newLimiters(rejectionsPerProxy, rejectionsBurst),
		census:     census{most: cmp.Or(c.StreamsPerPod, streamsPerPod), count: map[string]int{}},
		stop:       make(chan struct{}),
	}
	s.grpc = grpc.NewServer(s.options(pair)...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(s.grpc, &service{Server: s})
	return s, nil
}

func (s *Server) options(pair *certificate) []grpc.ServerOption {
	return []grpc.ServerOption{
		grpc.Creds(newCredentials(pair, s.refuseConnection)),
		grpc.ForceServerCodecV2(codec{encoding.GetCodecV2(proto.Name), newDecoder(s.mostNames)}),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeaders),
		// Fixed, because gRPC would else ask for the round-trip time at each acknowledgement that it gets, by a ping and a
		// change of the window: three times the frames of an edit.
		grpc.StaticStreamWindowSize(requestWindow),
		grpc.StaticConnWindowSize(requestWindow),
		grpc.ReadBufferSize(readBuffer),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.WaitForHandlers(true),
		grpc.KeepaliveParams(keepalive.ServerParameters{
			// Replicas share the proxies again after one was away, and tokens are checked again. gRPC adds a tenth of
			// jitter.
			MaxConnectionAge:      30 * time.Minute,
			MaxConnectionAgeGrace: 10 * time.Second,
			// A proxy whose node died is noticed, and no update waits for it any longer.
			Time:    30 * time.Second,
			Timeout: 10 * time.Second,
		}),
		// Envoy pings every 30 s.
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 10 * time.Second, PermitWithoutStream: true}),
	}
}

// Serve accepts proxies on l until ctx ends, then asks them to reconnect elsewhere and returns. It closes l. It can be
// called once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group errgroup.Group
	group.Go(func() error {
		<-ctx.Done()
		close(s.stop)
		force := time.AfterFunc(stopTimeout, s.grpc.Stop)
		defer force.Stop()
		s.grpc.GracefulStop()
		return nil
	})
	group.Go(func() error {
		defer cancel()
		if err := s.grpc.Serve(l); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			return fmt.Errorf("xDS server: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// Check reports why no proxy would trust this server at a time: its certificate is not valid yet, or no more.
func (s *Server) Check(now time.Time) error { return s.certificate.check(now) }

// An Update is one change to the published resources. Each proxy sees it as a whole: new clusters before the routes that
// use them, old ones removed after. A resource whose version is published already changes nothing, nor does the removal
// of one that is not.
type Update = envoy.Update

// Publish makes the update visible to every sidecar. Before the first call proxies are connected but get no answer, so
// that a control plane that starts never takes configuration away: publish the whole state first, in one Update.
//
// Applied may be nil; else it is called exactly once, when every proxy that was connected and is concerned by the
// update has acknowledged it, refused it, or gone, or when that takes too long; at once when there is none. It must not
// block.
// Publish itself does not wait for proxies. It may be called from several goroutines.
func (s *Server) Publish(u Update, applied func(Applied)) { s.publish(s.store, u, applied) }

func (s *Server) publish(to *store, u Update, applied func(Applied)) {
	t := newTracker(func(a Applied) {
		if a.Proxies > 0 {
			s.metrics.applied.Observe(a.Took.Seconds())
		}
		if applied != nil {
			applied(a)
		}
	})
	to.publish(u, t)
	t.finish(unconcerned)
	t.watch(s.config.Late)
}
