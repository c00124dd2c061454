package serve

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
)

func TestConnectionsWithoutTLS13AreRefused(t *testing.T) {
	tests := map[string]func(*testServer) credentials.TransportCredentials{
		"plain text": func(*testServer) credentials.TransportCredentials { return insecure.NewCredentials() },
		"TLS 1.2": func(s *testServer) credentials.TransportCredentials {
			return credentials.NewTLS(&tls.Config{RootCAs: s.roots, ServerName: "traffic-control", MaxVersion: tls.VersionTLS12})
		},
	}
	for name, creds := range tests {
		t.Run(name, func(t *testing.T) {
			s := startServer(t)
			s.Publish(set(staticCluster("c", 1)), nil)
			conn := s.dial(t, creds(s))
			if err := attempt(t, conn); status.Code(err) != codes.Unavailable {
				t.Errorf("status %v, want %v", err, codes.Unavailable)
			}
			conn.Close()
			s.wantRefused(t, "tls")
		})
	}
}

// A proxy that trusts another CA does not talk to this server.
func TestAProxyChecksTheCertificate(t *testing.T) {
	s := startServer(t)
	_, _, others := writeCertificate(t, t.TempDir(), "traffic-control")
	conn := s.dial(t, credentials.NewTLS(&tls.Config{RootCAs: others, ServerName: "traffic-control"}))
	if err := attempt(t, conn); status.Code(err) != codes.Unavailable {
		t.Errorf("status %v, want %v", err, codes.Unavailable)
	}
}

// attempt opens a stream on a connection that cannot be made and returns how that fails.
func attempt(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		return err
	}
	_, err = stream.Recv()
	return err
}

// A renewed certificate is used without a restart, a broken one is not, and streams that are there stay.
func TestTheCertificateIsReloaded(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := writeCertificate(t, dir, "traffic-control")
	s := startServer(t, func(c *Config) { c.CertFile, c.KeyFile = certFile, keyFile })
	first, _ := os.ReadFile(certFile)
	s.roots.AppendCertsFromPEM(first)
	s.Publish(set(route("r", 1)), nil)
	p := s.connect(t, "a")
	p.subscribe(routes, "r")
	p.wantAll("route: r")

	if err := os.WriteFile(certFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	still := s.presented(t)
	if log := s.log.String(); !strings.Contains(log, "the last good certificate is served") {
		t.Errorf("log: %s", log)
	}
	next := t.TempDir()
	newCert, newKey, _ := writeCertificate(t, next, "traffic-control")
	for from, to := range map[string]string{newKey: keyFile, newCert: certFile} {
		content, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if filepath.Base(from) == "tls.crt" {
			s.roots.AppendCertsFromPEM(content)
		}
		if err := os.WriteFile(to, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if s.presented(t).Equal(still) {
		t.Error("the old certificate is still served")
	}
	s.Publish(set(route("r", 2)), nil)
	p.wantAll("route: r")
	p.quiet()
	s.connect(t, "b").quiet()
}

// A replica whose certificate no proxy trusts must not be called ready, and is so again when the certificate is renewed,
// although nobody connects meanwhile.
func TestAnExpiredCertificateIsTold(t *testing.T) {
	dir := t.TempDir()
	end := time.Now().Add(time.Hour).Truncate(time.Second)
	certFile, keyFile, _ := writeCertificateUntil(t, dir, "traffic-control", end)
	s := startServer(t, func(c *Config) { c.CertFile, c.KeyFile = certFile, keyFile })
	checks := func(at time.Time, want string) {
		t.Helper()
		err := s.Check(at)
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("at %v: %v, want %q", at, err, want)
		}
	}
	checks(time.Now(), "")
	checks(time.Now().Add(-24*time.Hour), "valid from")
	checks(end.Add(time.Second), "tls.crt: valid from")
	if got := s.expiration(t); got != float64(end.Unix()) {
		t.Errorf("the metric says %v, want %v", got, end.Unix())
	}
	renewed := end.Add(time.Hour)
	writeCertificateUntil(t, dir, "traffic-control", renewed)
	checks(end.Add(time.Second), "")
	if got := s.expiration(t); got != float64(renewed.Unix()) {
		t.Errorf("renewed, the metric says %v, want %v", got, renewed.Unix())
	}
	if err := os.WriteFile(certFile, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	checks(time.Now(), "") // the last good one is served
	checks(renewed.Add(time.Second), "valid from")
}

// expiration is what operators alert on.
func (s *testServer) expiration(t *testing.T) float64 {
	t.Helper()
	families, err := s.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "traffic_control_certificate_expiration_timestamp_seconds" {
			return f.GetMetric()[0].GetGauge().GetValue()
		}
	}
	return 0
}

// presented is the certificate that a new connection sees.
func (s *testServer) presented(t *testing.T) *x509.Certificate {
	t.Helper()
	raw, err := s.listener.DialContext(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	conn := tls.Client(raw, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
	if err := conn.HandshakeContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	return conn.ConnectionState().PeerCertificates[0]
}
