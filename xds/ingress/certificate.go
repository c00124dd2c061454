package ingress

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	cryptotls "crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A certificate is what a Secret holds, once it was read.
type certificate struct {
	pair *Pair
	leaf *x509.Certificate
	// names are those of its hosts, in lower case: there may be thousands, and as many hosts to look for.
	names map[string]struct{}
}

// leastRSA is the smallest key that Envoy takes, in bits. mostRSA is what authorities sign: a key of twice as many bits takes 40 times as
// long, 0.4 s of a worker that all hosts share for each handshake.
const leastRSA, mostRSA = 2048, 4096

// parseCertificate reads a chain and the key of its first certificate. It writes both anew, so that Envoy gets only what was
// understood here. The error never has anything of the key in it.
func parseCertificate(chain, key []byte) (*certificate, error) {
	if len(chain) == 0 || len(key) == 0 {
		return nil, errors.New("tls.crt or tls.key is empty")
	}
	if err := canBeRead(key); err != nil {
		return nil, err
	}
	parsed, err := cryptotls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("tls.crt and tls.key are no pair: %w", err)
	}
	if err := leafFits(parsed.Leaf); err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(parsed.PrivateKey)
	if err != nil {
		return nil, errors.New("tls.key cannot be written as PKCS #8")
	}
	var pemChain bytes.Buffer
	for _, block := range parsed.Certificate {
		if _, err := x509.ParseCertificate(block); err != nil {
			return nil, fmt.Errorf("a certificate of the chain in tls.crt: %w", err)
		}
		pemChain.Write(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block}))
	}
	return &certificate{
		pair: &Pair{Chain: pemChain.Bytes(), Key: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})},
		leaf: parsed.Leaf, names: hostNames(parsed.Leaf),
	}, nil
}

// Extensions of certificates.
var (
	keyUsage   = asn1.ObjectIdentifier{2, 5, 29, 15}               // RFC 5280, section 4.2.1.3
	tlsFeature = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24} // RFC 7633
)

func has(leaf *x509.Certificate, extension asn1.ObjectIdentifier) bool {
	return slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool { return e.Id.Equal(extension) })
}

// leafFits tells what Envoy would refuse of a certificate.
func leafFits(leaf *x509.Certificate) error {
	switch {
	case has(leaf, tlsFeature):
		return errors.New("the certificate must be stapled (its TLS feature extension says so), which the gateway does not do")
	case leaf.Subject.CommonName == "" && len(leaf.DNSNames)+len(leaf.IPAddresses)+len(leaf.URIs) == 0:
		return errors.New("the certificate names nobody: it has neither a common name nor a subject alternative name")
	}
	return keyFits(leaf)
}

// keyFits tells what Envoy would refuse of its key, or suffer from.
func keyFits(leaf *x509.Certificate) error {
	switch public := leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		switch bits := public.N.BitLen(); {
		case bits < leastRSA:
			return fmt.Errorf("an RSA key of %d bits is too short: at least %d", bits, leastRSA)
		case bits > mostRSA:
			return fmt.Errorf("an RSA key of %d bits is too long: at most %d, since a handshake takes the time of all hosts", bits, mostRSA)
		}
		return nil
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, public.Curve) {
			return fmt.Errorf("a key on curve %s is not supported: P-256, P-384 or P-521", public.Curve.Params().Name)
		}
		if has(leaf, keyUsage) && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
			return errors.New("the certificate's key usage lacks digitalSignature, which is all that an ECDSA key does in TLS")
		}
		return nil
	}
	return fmt.Errorf("a key of type %s is not supported: RSA or ECDSA", leaf.PublicKeyAlgorithm)
}

// check tells whether the certificate is valid now, and when that changes; never if it is past.
func (c *certificate) check(now time.Time) (until time.Time, err error) {
	const day = "2006-01-02 15:04:05 MST"
	switch {
	case now.Before(c.leaf.NotBefore):
		return c.leaf.NotBefore, fmt.Errorf("the certificate is not valid before %s", c.leaf.NotBefore.UTC().Format(day))
	case now.After(c.leaf.NotAfter):
		return time.Time{}, fmt.Errorf("the certificate expired at %s", c.leaf.NotAfter.UTC().Format(day))
	}
	return c.leaf.NotAfter, nil
}

func hostNames(leaf *x509.Certificate) map[string]struct{} {
	names := map[string]struct{}{}
	for _, name := range leaf.DNSNames {
		names[strings.ToLower(name)] = struct{}{}
	}
	return names
}

// covers reports whether clients take the certificate for the host (RFC 9525, section 6.3): by its name, or that of its wildcard.
func (c *certificate) covers(host string) bool {
	_, own := c.names[host]
	wildcard := wildcardOf(host)
	_, below := c.names[wildcard]
	return own || wildcard != "" && below
}
