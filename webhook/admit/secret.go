package admit

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// Files are where cert-manager's Secret is mounted.
type Files struct {
	// Certificate and Key are the webhook's own, PEM.
	Certificate, Key string
	// CA are files of PEM certificates, by which sidecars verify the control plane.
	CA []string
}

// A Secret holds what was read from its files: the certificate to serve with, and the Injector, whose sidecars carry the
// CA. Both change when the files do.
type Secret struct {
	files   Files
	sidecar inject.Config
	log     *slog.Logger
	current atomic.Pointer[content]
}

type content struct {
	raw         [][]byte
	certificate tls.Certificate
	ca          []*x509.Certificate
	injector    *inject.Injector
}

// LoadSecret reads the files and validates the configuration of sidecars, whose CA comes from them.
func LoadSecret(files Files, sidecar inject.Config, log *slog.Logger) (*Secret, error) {
	s := &Secret{files: files, sidecar: sidecar, log: log}
	if err := s.load(); err != nil {
		return nil, err
	}
	return s, nil
}

// Injector is the one in force.
func (s *Secret) Injector() *inject.Injector { return s.current.Load().injector }

// GetCertificate is for tls.Config: each handshake uses the certificate in force.
func (s *Secret) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return &s.current.Load().certificate, nil
}

// Watch reads the files that often, until ctx ends. What is not valid changes nothing but the log.
func (s *Secret) Watch(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := s.load(); err != nil {
				s.log.Error("the certificates in force stay", "error", err)
			}
		}
	}
}

// Check reports why the API server would not trust this webhook, or sidecars would not trust the control plane.
func (s *Secret) Check(now time.Time) error {
	c := s.current.Load()
	if err := validAt(c.certificate.Leaf, now); err != nil {
		return fmt.Errorf("serving certificate: %w", err)
	}
	var errs []error
	for _, ca := range c.ca {
		err := validAt(ca, now)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("CA for sidecars: %w", err))
	}
	return errors.Join(errs...)
}

func validAt(c *x509.Certificate, now time.Time) error {
	if now.Before(c.NotBefore) || now.After(c.NotAfter) {
		return fmt.Errorf("%s is valid from %s to %s only", c.Subject, c.NotBefore.Format(time.RFC3339), c.NotAfter.Format(time.RFC3339))
	}
	return nil
}

// load takes over what is in the files, if it changed and all of it is valid.
func (s *Secret) load() error {
	raw, err := s.read()
	if err != nil {
		return err
	}
	if before := s.current.Load(); before != nil && slices.EqualFunc(raw, before.raw, bytes.Equal) {
		return nil
	}
	c := &content{raw: raw}
	if c.certificate, err = tls.X509KeyPair(raw[0], raw[1]); err != nil {
		return fmt.Errorf("%s and %s: %w", s.files.Certificate, s.files.Key, err)
	}
	for i, file := range s.files.CA {
		found, err := parseCA(raw[2+i])
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		c.ca = append(c.ca, found...)
	}
	sidecar := s.sidecar
	sidecar.CA = c.ca
	if c.injector, err = inject.New(sidecar); err != nil {
		return err
	}
	s.current.Store(c)
	s.log.Info("read certificates", "serial", c.certificate.Leaf.SerialNumber.String(), "until", c.certificate.Leaf.NotAfter, "cas", len(c.ca))
	return nil
}

// read returns the certificate, the key and the CAs as they are in the files.
func (s *Secret) read() ([][]byte, error) {
	var raw [][]byte
	for _, file := range append([]string{s.files.Certificate, s.files.Key}, s.files.CA...) {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read certificates: %w", err)
		}
		raw = append(raw, text)
	}
	return raw, nil
}

// parseCA reads PEM text that holds certificates and nothing else.
func parseCA(text []byte) ([]*x509.Certificate, error) {
	var found []*x509.Certificate
	for len(bytes.TrimSpace(text)) > 0 {
		block, rest := pem.Decode(text)
		if block == nil || block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("what follows certificate %d is not a PEM certificate", len(found))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(found)+1, err)
		}
		found, text = append(found, c), rest
	}
	if len(found) == 0 {
		return nil, errors.New("no certificate")
	}
	return found, nil
}
