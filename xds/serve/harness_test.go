package serve

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	resourcev3 "github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/test/bufconn"
)

// The types, by the names that they have in these tests.
const (
	clusters  = resourcev3.ClusterType
	endpoints = resourcev3.EndpointType
	listeners = resourcev3.ListenerType
	routes    = resourcev3.RouteType
	secrets   = resourcev3.SecretType
)

// long is longer than anything takes on a busy machine.
const long = time.Minute

// No goroutine may be left after the servers and proxies of a test are gone.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTokens maps a token to its pod. Any other is refused.
type fakeTokens map[string]Identity

func (f fakeTokens) Authenticate(_ context.Context, token string) (Identity, error) {
	if id, ok := f[token]; ok {
		return id, nil
	}
	return Identity{}, fmt.Errorf("%w: unknown", ErrRefused)
}

func pod(name string) Identity {
	return Identity{Namespace: "default", ServiceAccount: "default", Pod: name, UID: name + "-uid", NodeID: name + ".default"}
}

// A testServer is a Server behind an in-process listener, over TLS.
type testServer struct {
	*Server
	t        testing.TB
	listener *bufconn.Listener
	registry *prometheus.Registry
	log      *syncBuffer
	roots    *x509.CertPool
	// close stops the server; the end of the test does.
	close func()

	mu         sync.Mutex
	rejections []Rejection
}

// startServer runs a server that ends with the test. Tokens of pods a and b are "token-a" and "token-b".
func startServer(t testing.TB, adjust ...func(*Config)) *testServer {
	t.Helper()
	certFile, keyFile, roots := writeCertificate(t, t.TempDir(), "traffic-control")
	s := &testServer{
		t: t, listener: bufconn.Listen(64 << 10), registry: prometheus.NewRegistry(), log: &syncBuffer{}, roots: roots,
	}
	c := Config{
		Authenticator: fakeTokens{"token-a": pod("a"), "token-b": pod("b")},
		CertFile:      certFile,
		KeyFile:       keyFile,
		Registerer:    s.registry,
		Logger:        slog.New(slog.NewTextHandler(s.log, nil)),
		StreamsPerPod: 1000,        // a test of the limit counts by itself
		Patience:      time.Minute, // tests of deadlines set their own
		OnReject: func(r Rejection) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.rejections = append(s.rejections, r)
		},
	}
	for _, f := range adjust {
		f(&c)
	}
	server, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	s.Server = server
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx, s.listener) }()
	s.close = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(s.close)
	return s
}

// dial opens a connection of its own, with TLS 1.3 unless adjusted.
func (s *testServer) dial(t testing.TB, creds credentials.TransportCredentials, options ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	options = append(options,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return s.listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(creds))
	conn, err := grpc.NewClient("passthrough:///traffic-control", options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func (s *testServer) tls() credentials.TransportCredentials {
	return credentials.NewTLS(&tls.Config{RootCAs: s.roots, ServerName: "traffic-control"})
}

func (s *testServer) rejected() []Rejection {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.rejections)
}

// mail is the number of changes that wait for a proxy.
func (s *testServer) mail(proxy Identity) int {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	n := 0
	for st := range s.store.streams {
		if st.proxy == proxy {
			n += len(st.mail.changes)
		}
	}
	return n
}

// writeCertificate writes a self-signed certificate of an hour and its key.
func writeCertificate(t testing.TB, dir, name string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	return writeCertificateUntil(t, dir, name, time.Now().Add(time.Hour))
}

func writeCertificateUntil(t testing.TB, dir, name string, until time.Time) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, content := range map[string][]byte{
		certFile: certPEM,
		keyFile:  pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	} {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots = x509.NewCertPool()
	roots.AppendCertsFromPEM(certPEM)
	return certFile, keyFile, roots
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// eventually waits for something that a goroutine is about to do.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(long); !is(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
