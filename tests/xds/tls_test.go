package xds

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// TestTLSPasses: through a tcp port TLS is between the application and the server: each verifies the other's certificate,
// the server sees the name that the client wants, and they agree on HTTP/2. An http port does not take TLS, and says so.
func TestTLSPasses(t *testing.T) {
	w := newWorld(t)
	c := startControl(t, w)
	dir := t.TempDir()
	ca := injected.Certificate(t, dir)
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certificate, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	authorities := x509.NewCertPool()
	authorities.AddCert(ca)

	l := listen(t, w.outside, outsideAddress+":0")
	server := &http.Server{
		ReadHeaderTimeout: patience,
		TLSConfig:         &tls.Config{ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: authorities},
		Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			fmt.Fprint(rw, r.TLS.ServerName, r.TLS.NegotiatedProtocol, r.TLS.PeerCertificates[0].Equal(ca))
		}),
	}
	go func() { _ = server.ServeTLS(l, certFile, keyFile) }()
	t.Cleanup(func() { server.Close() })
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	byTCP, direct, byHTTP := newService("tcp", label.TCP, port), newService("direct", label.Direct, port), newService("http", label.HTTP, port)
	c.publish(t, open(t, byTCP, byHTTP))
	direct.Addresses[0] = byTCP.Endpoints[0].Address // direct leaves the rest to Kubernetes, which is not here
	c.publish(t, open(t, direct))
	startSidecar(t, w, c)

	for _, service := range []*service{byTCP, direct} {
		client := w.client(true)
		transport := client.Transport.(*http.Transport)
		transport.ForceAttemptHTTP2 = true
		transport.TLSClientConfig = &tls.Config{
			ServerName: "localhost", RootCAs: authorities, Certificates: []tls.Certificate{certificate},
		}
		t.Cleanup(transport.CloseIdleConnections)
		response, err := client.Get("https://" + service.address())
		if err != nil {
			t.Errorf("%s: %v", service.Owner.Name, err)
			continue
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if want := "localhosth2true"; err != nil || string(text) != want {
			t.Errorf("%s: the server sees %q, %v, want %q", service.Owner.Name, text, err, want)
		}
		if !response.TLS.PeerCertificates[0].Equal(ca) || response.ProtoMajor != 2 {
			t.Errorf("%s: HTTP/%d with %v", service.Owner.Name, response.ProtoMajor, response.TLS.PeerCertificates[0].Subject)
		}
	}

	conn, err := w.dial(t.Context(), byHTTP.address())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	err = tls.Client(conn, &tls.Config{ServerName: "localhost", RootCAs: authorities}).HandshakeContext(t.Context())
	if header := (tls.RecordHeaderError{}); !errors.As(err, &header) || string(header.RecordHeader[:]) != "HTTP/" {
		t.Errorf("an http port answers TLS with %v", err)
	}
}
