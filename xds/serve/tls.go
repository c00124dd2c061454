package serve

import (
	"crypto/tls"
	"net"

	"google.golang.org/grpc/credentials"
)

// getCertificate returns the certificate for one handshake.
type getCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// newCredentials returns credentials for TLS 1.3 that report connections which never become one, such as plain text.
func newCredentials(certificate getCertificate, refused func(net.Addr, error)) credentials.TransportCredentials {
	return &reportingCredentials{
		TransportCredentials: credentials.NewTLS(&tls.Config{
			MinVersion:     tls.VersionTLS13,
			GetCertificate: certificate,
		}),
		refused: refused,
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
