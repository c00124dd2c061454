package admit

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
)

// lastRequests bounds the wait for requests that have begun.
const lastRequests = 10 * time.Second

// silence is how long a connection has had nothing to do when it is closed: the end of one that is busy can cross a request
// on its way, which then fails.
const silence = time.Second

// A Server serves reviews over HTTPS.
type Server struct {
	http *http.Server
	// draining ends the readiness, some time before the last request.
	draining chan struct{}
}

// NewServer makes a server that asks for its certificate at each handshake.
func NewServer(handler http.Handler, certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error), log *slog.Logger) *Server {
	draining := make(chan struct{})
	return &Server{
		draining: draining,
		http: &http.Server{
			Handler: letGo(handler, draining),
			TLSConfig: &tls.Config{
				MinVersion: tls.VersionTLS13, GetCertificate: certificate,
				// After a second of silence an answer of ten packets would be ten writes.
				DynamicRecordSizingDisabled: true,
			},
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       30 * time.Second,
			WriteTimeout:      30 * time.Second,
			IdleTimeout:       2 * time.Minute,
			// Mostly of handshakes that were not finished, as port checks of load balancers do.
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		},
	}
}

// letGo makes each answer of a server that drains the last of its connection, so that who has one leaves it for a replica
// that stays: the API server would keep asking the old release for the old settings, when helm has long said that the new
// one is ready.
func letGo(next http.Handler, draining <-chan struct{}) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-draining:
			w.Header().Set("Connection", "close")
		default:
		}
		next.ServeHTTP(w, r)
	})
}

// Check reports that the server is about to end.
func (s *Server) Check(time.Time) error {
	select {
	case <-s.draining:
		return errors.New("stopping")
	default:
		return nil
	}
}

// Serve answers until ctx ends; then for drain, in which the API server learns that this server is not ready; then it
// lets the requests that have begun end.
func (s *Server) Serve(ctx context.Context, l net.Listener, drain time.Duration) error {
	group, failed := errgroup.WithContext(context.WithoutCancel(ctx))
	group.Go(func() error {
		if err := s.http.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("serve reviews: %w", err)
		}
		return nil
	})
	group.Go(func() error {
		select {
		case <-failed.Done():
			return nil
		case <-ctx.Done():
		}
		close(s.draining)
		end := time.After(drain)
		select {
		case <-failed.Done():
		case <-end:
		case <-time.After(silence):
			s.http.SetKeepAlivesEnabled(false)
			select {
			case <-failed.Done():
			case <-end:
			}
		}
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastRequests)
		defer cancel()
		return s.http.Shutdown(last)
	})
	return group.Wait()
}
