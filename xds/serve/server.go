package serve

import (
	"context"
	"errors"
	"log/slog"
	"net"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
)

// A Config says how a Server identifies its proxies and where it reports. Zero values of optional fields take the
// default that each names.
type Config struct {
	// Authenticator tells who a token belongs to. Required.
	Authenticator Authenticator
	// CertFile and KeyFile are PEM files of the server's certificate chain and private key, read again when they
	// change: a renewed certificate serves the next handshake. Required.
	CertFile, KeyFile string
	// Registerer takes the metrics, all named traffic_control_*. Required.
	Registerer prometheus.Registerer
	// Logger gets one line per connect, disconnect, refusal and rejection; default slog.Default().
	Logger *slog.Logger
	// OnReject is called once for each resource that a proxy refused, on that proxy's goroutine: it must not block.
	OnReject func(Rejection)
	// NewStreams limits how many streams are admitted per second, on average; default 200, with bursts of as many.
	// A stream above it waits, and is told to come back later when the wait would be long.
	NewStreams rate.Limit
}

// A Server is a delta ADS server: it keeps the published resources and brings every connected proxy to them.
type Server struct{}

// New returns a Server that has published nothing yet. The error names the field of Config that is missing or wrong.
func New(Config) (*Server, error) { return nil, errors.New("not built yet") }

// Serve accepts proxies on l until ctx ends, then asks them to reconnect elsewhere and returns. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error { return errors.New("not built yet") }

// An Update is one change to the published resources, seen by each proxy as a whole: new clusters before the routes
// that use them, old ones removed after.
type Update struct {
	// Set adds resources or replaces those of the same key. One whose version is already published changes nothing.
	Set []envoy.Resource
	// Remove takes resources away; unknown keys are ignored. A key that is also in Set stays.
	Remove []envoy.Key
}

// Publish makes the update visible to every proxy. Before the first call proxies are connected but get no answer, so
// that a control plane that starts never takes configuration away: publish the whole state first, in one Update.
//
// Applied may be nil; else it is called exactly once, when every proxy that was connected and is concerned by the
// update has acknowledged it, refused it, or gone; at once when there is none. It must not block or call Publish.
// Publish itself does not wait for proxies. It may be called from several goroutines.
func (s *Server) Publish(u Update, applied func(Applied)) {}
