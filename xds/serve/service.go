package serve

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/peer"
)

const (
	// turnTimeout is how long a new stream waits for its turn.
	turnTimeout = 10 * time.Second
	// startTimeout is how long it waits for something to be published: longer than client-go pauses, at most, between two
	// attempts to list what there is, because a proxy that is refused may come back half a minute later.
	startTimeout = time.Minute
	// requestTimeout is how long its first request may take, which can be of megabytes.
	requestTimeout = 30 * time.Second
)

// A service is what is registered with gRPC: delta ADS, and nothing else.
type service struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	*Server
}

// StreamAggregatedResources refuses the state-of-the-world protocol.
func (s *service) StreamAggregatedResources(w discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return s.refuse(w.Context(), &refusal{
		"state_of_the_world", codes.Unimplemented,
		errors.New("only delta ADS is served: set api_type to DELTA_GRPC"),
	})
}

// DeltaAggregatedResources serves one proxy until it goes.
func (s *service) DeltaAggregatedResources(w discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	ctx := w.Context()
	proxy, err := authenticate(ctx, s.config.Authenticator)
	if err != nil {
		return s.refuse(ctx, err)
	}
	proxy, store := s.role(proxy)
	leave, err := s.census.enter(proxy)
	if err != nil {
		return s.refuse(ctx, err)
	}
	defer leave()
	s.metrics.proxies.Inc()
	defer s.metrics.proxies.Dec()
	if err := s.awaitStart(ctx, store); err != nil {
		return s.refuse(ctx, err)
	}
	if err := s.awaitTurn(ctx); err != nil {
		return s.refuse(ctx, err)
	}
	requests, lost := receive(w)
	first, err := firstRequest(proxy, requests)
	if err != nil {
		return s.refuse(ctx, err)
	}
	if first == nil {
		return s.refuse(ctx, lost())
	}
	log, began := s.config.Logger.With("proxy", proxy.NodeID, "address", address(ctx)), time.Now()
	log.Info("proxy connected")
	err = s.serve(proxy, store, first, requests, func(r *response) error {
		s.metrics.sent(r)
		return w.SendMsg(r)
	})
	if err == nil {
		err = lost()
	}
	log.Info("proxy disconnected", "after", time.Since(began).Round(time.Millisecond), "cause", cmp.Or(err, errClosed))
	return s.refuse(ctx, err)
}

// errClosed is the cause in the log when nothing is wrong.
var errClosed = errors.New("closed by the proxy")

// awaitStart lets the stream wait until something is published. What a thousand proxies say that they have is read after that,
// when nearly all of it is what is published, and kept once for all.
func (s *Server) awaitStart(ctx context.Context, store *store) error {
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-store.begun:
		return nil
	case <-ctx.Done():
		return ctx.Err() // it went away
	case <-s.stop:
		return errStopping
	case <-timeout.C:
		return &refusal{"starting", codes.Unavailable, errors.New("this replica of the control plane does not know the cluster yet")}
	}
}

// awaitTurn lets the stream wait for its first sync. Only those that proved who they are take turns, and of one pod no more
// wait than it may have streams.
func (s *Server) awaitTurn(ctx context.Context) error {
	turn, cancel := context.WithTimeout(ctx, turnTimeout)
	defer cancel()
	err := s.newStreams.Wait(turn)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // it went away
	default:
		return &refusal{"overload", codes.Unavailable, fmt.Errorf("too many new streams: %w", err)}
	}
}

// firstRequest waits for the request that says which node the proxy claims to be. It returns nil if the proxy went away.
func firstRequest(proxy Identity, requests <-chan *discoveryv3.DeltaDiscoveryRequest) (*discoveryv3.DeltaDiscoveryRequest, error) {
	timeout := time.NewTimer(requestTimeout)
	defer timeout.Stop()
	select {
	case first := <-requests:
		if first != nil && first.GetNode() == nil {
			return nil, &refusal{"node_id", codes.Unauthenticated, errors.New("the first request has no node")}
		}
		return first, checkNode(proxy, first.GetNode())
	case <-timeout.C:
		return nil, &refusal{"silent", codes.DeadlineExceeded, fmt.Errorf("no request within %v", requestTimeout)}
	}
}

// serve runs the loop of an identified proxy. It returns nil when requests is closed.
func (s *Server) serve(proxy Identity, store *store, first *discoveryv3.DeltaDiscoveryRequest,
	requests <-chan *discoveryv3.DeltaDiscoveryRequest, send func(*response) error,
) error {
	st := newStream(proxy, store, s.config.Patience, hooks{
		refused: func(typeURL string) { s.metrics.rejections.WithLabelValues(typeLabel(typeURL)).Inc() },
		reject:  s.reject,
		expired: s.metrics.deadlines.Inc,
	})
	store.attach(st)
	defer st.abandon()
	if err := st.receive(first); err != nil {
		return err
	}
	return st.loop(requests, s.stop, send)
}

// reject tells of a refused resource, unless a sidecar refuses very many. It is counted in any case.
func (s *Server) reject(r Rejection) {
	if r.Proxy.NodeID != GatewayNodeID && !s.rejections.of(r.Proxy.UID).Allow() {
		return
	}
	s.config.Logger.Warn("proxy rejected a resource", "proxy", r.Proxy.NodeID, "type", typeLabel(r.Key.Type),
		"resource", r.Key.Name, "version", r.Version, "owner", r.Owner.String(), "message", r.Message)
	s.config.OnReject(r)
}

// refuse counts a stream that may not be served, and logs it unless very many are refused. Any other error it returns as it
// is.
func (s *Server) refuse(ctx context.Context, err error) error {
	var r *refusal
	if !errors.As(err, &r) {
		return err
	}
	s.metrics.refusals.WithLabelValues(r.reason).Inc()
	if s.refusals.Allow() {
		s.config.Logger.Warn("stream refused", "reason", r.reason, "address", address(ctx), "error", r.err)
	}
	return r
}

// refuseConnection does the same for a connection that did not become one over TLS.
func (s *Server) refuseConnection(from net.Addr, err error) {
	s.metrics.refusals.WithLabelValues("tls").Inc()
	if s.refusals.Allow() {
		s.config.Logger.Warn("connection refused", "reason", "tls", "address", from.String(), "error", err)
	}
}

func address(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok {
		return p.Addr.String()
	}
	return ""
}

// receive reads requests on a goroutine of its own, which ends with the stream. When requests is closed lost tells why;
// nil means that the proxy closed the stream.
func receive(w discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) (requests <-chan *discoveryv3.DeltaDiscoveryRequest, lost func() error) {
	out := make(chan *discoveryv3.DeltaDiscoveryRequest)
	var cause error
	go func() {
		defer close(out)
		for {
			var req request
			if cause = w.RecvMsg(&req); cause == nil {
				cause = req.err
			}
			if cause != nil {
				return
			}
			select {
			case out <- req.message:
			case <-w.Context().Done():
				return
			}
		}
	}()
	return out, func() error {
		if errors.Is(cause, io.EOF) {
			return nil
		}
		return cause
	}
}
