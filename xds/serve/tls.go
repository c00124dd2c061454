package serve

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"
)

// newCredentials returns credentials for TLS 1.3 that report connections which never become one, such as plain text.
func newCredentials(c *certificate, refused func(net.Addr, error)) credentials.TransportCredentials {
	return &reportingCredentials{
		TransportCredentials: credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS13, GetCertificate: c.get}),
		refused:              refused,
	}
}

type reportingCredentials struct {
	credentials.TransportCredentials
	refused func(net.Addr, error)
}

// ServerHandshake is gRPC's own, and reports its error, which gRPC itself does not.
func (c *reportingCredentials) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := c.TransportCredentials.ServerHandshake(conn)
	if err != nil {
		c.refused(conn.RemoteAddr(), err)
	}
	return secure, info, err
}

// Clone keeps the report.
func (c *reportingCredentials) Clone() credentials.TransportCredentials {
	return &reportingCredentials{TransportCredentials: c.TransportCredentials.Clone(), refused: c.refused}
}

// A certificate is read from its files for each handshake, so that a renewed one is used at once. A proxy makes one
// handshake in half an hour.
type certificate struct {
	certFile, keyFile string
	log               *slog.Logger
	// last is served while the files are broken, or between one and the other being replaced.
	last atomic.Pointer[tls.Certificate]
}

func newCertificate(certFile, keyFile string, log *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, log: log}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("read CertFile and KeyFile: %w", err)
	}
	c.last.Store(&pair)
	return nil
}

// check reports why no proxy would trust what is served. It reads the files again: a server that nobody connects to would
// not notice that its certificate was renewed.
func (c *certificate) check(now time.Time) error {
	_ = c.read() // the next handshake tells
	leaf := c.last.Load().Leaf
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("certificate %s: valid from %s to %s only", c.certFile, leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// expiration is when what is served ends to be valid, in seconds since 1970.
func (c *certificate) expiration() float64 { return float64(c.last.Load().Leaf.NotAfter.Unix()) }

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if err := c.read(); err != nil {
		c.log.Warn("the last good certificate is served", "error", err)
	}
	return c.last.Load(), nil
}
