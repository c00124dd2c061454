package bootstrap_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// A control plane answers every first request with what it holds, and records who asked.
type control struct {
	discovery.UnimplementedAggregatedDiscoveryServiceServer
	ca   *x509.Certificate
	port uint16
	// resources by type; a type that is not there is answered with nothing.
	resources map[string][]*discovery.Resource
	// answer is closed when requests may be answered.
	answer chan struct{}
	// tokens receives the authorization header of each new stream, whose client then waits on hangUp.
	tokens chan string
	nodes  chan string
	hangUp chan struct{}
	server *grpc.Server
}

// newControl serves on loopback in the pod's network namespace, as "localhost".
func newControl(t *testing.T, s *sandbox, resources map[string][]*discovery.Resource) *control {
	t.Helper()
	ca, leaf := certificates(t)
	c := &control{
		ca: ca, resources: resources, answer: make(chan struct{}), hangUp: make(chan struct{}),
		tokens: make(chan string, 1000), nodes: make(chan string, 1000),
	}
	var listener net.Listener
	injected.Inside(t, s.pod, func() (err error) {
		listener, err = net.Listen("tcp4", "127.0.0.1:0")
		return err
	})
	c.port = uint16(listener.Addr().(*net.TCPAddr).Port)
	c.server = grpc.NewServer(grpc.Creds(credentials.NewServerTLSFromCert(&leaf)))
	discovery.RegisterAggregatedDiscoveryServiceServer(c.server, c)
	go func() { _ = c.server.Serve(listener) }()
	t.Cleanup(c.server.Stop)
	return c
}

// open lets requests be answered.
func (c *control) open() *control {
	close(c.answer)
	return c
}

func (c *control) DeltaAggregatedResources(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	headers, _ := metadata.FromIncomingContext(stream.Context())
	token := ""
	if values := headers.Get("authorization"); len(values) == 1 {
		token = values[0]
	}
	c.tokens <- token
	failed := make(chan error, 1)
	go func() { failed <- c.converse(stream) }()
	select {
	case err := <-failed:
		return err
	case <-c.hangUp:
		return nil
	}
}

func (c *control) converse(stream discovery.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		if request.GetNode().GetId() != "" {
			c.nodes <- request.GetNode().GetId()
		}
		if request.GetResponseNonce() != "" {
			continue
		}
		select {
		case <-c.answer:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
		err = stream.Send(&discovery.DeltaDiscoveryResponse{
			TypeUrl: request.GetTypeUrl(), Nonce: "1", SystemVersionInfo: "1", Resources: c.resources[request.GetTypeUrl()],
		})
		if err != nil {
			return err
		}
	}
}

// certificates makes a CA and a certificate for "localhost".
func certificates(t *testing.T) (*x509.Certificate, tls.Certificate) {
	t.Helper()
	ca, caKey := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "test CA"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	leaf, key := sign(t, &x509.Certificate{DNSNames: []string{"localhost"}}, ca, caKey)
	return ca, tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

func sign(t *testing.T, template, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if parent == nil {
		parent, parentKey = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	raw, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return certificate, key
}
