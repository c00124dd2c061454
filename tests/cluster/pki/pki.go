// Package pki makes a cluster's certificate authority, the certificates and
// kubeconfigs of its components, and the key that signs ServiceAccount tokens.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// lifetime of everything signed here: a state directory is thrown away earlier.
const lifetime = 10 * 365 * 24 * time.Hour

// Authority signs certificates and writes them to Dir.
type Authority struct {
	Dir string

	cert *x509.Certificate
	key  crypto.Signer
}

// Identity is the subject of a certificate and the names it may serve under.
// An identity without hosts is a client's.
type Identity struct {
	Name  string
	Group string
	Hosts []string // DNS names and addresses
}

// NewAuthority makes a certificate authority and writes ca.crt and ca.key to dir.
func NewAuthority(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create the certificate directory: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate the authority's key: %w", err)
	}
	template := template(Identity{Name: "kubernetes"})
	template.IsCA = true
	template.BasicConstraintsValid = true
	template.KeyUsage |= x509.KeyUsageCertSign
	template.ExtKeyUsage = nil
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign the authority: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse the authority: %w", err)
	}
	a := &Authority{Dir: dir, cert: cert, key: key}
	return a, a.write("ca", der, key)
}

// Issue signs a certificate and writes it as name.crt and name.key.
func (a *Authority) Issue(name string, id Identity) error {
	der, key, err := a.sign(id)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	return a.write(name, der, key)
}

// sign makes a key and a certificate for id.
func (a *Authority) sign(id Identity) ([]byte, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generate a key: %w", err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template(id), a.cert, key.Public(), a.key)
	if err != nil {
		return nil, nil, fmt.Errorf("sign: %w", err)
	}
	return der, key, nil
}

func (a *Authority) write(name string, der []byte, key *ecdsa.PrivateKey) error {
	encoded, err := encodeKey(key)
	if err != nil {
		return fmt.Errorf("certificate %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, name+".key"), encoded, 0o600); err != nil {
		return fmt.Errorf("write the key of %s: %w", name, err)
	}
	if err := os.WriteFile(filepath.Join(a.Dir, name+".crt"), encodeCert(der), 0o644); err != nil {
		return fmt.Errorf("write certificate %s: %w", name, err)
	}
	return nil
}

// WriteTokenKey writes a new RSA key for signing ServiceAccount tokens to
// path, and its public half to path + ".pub".
func WriteTokenKey(path string) error {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return fmt.Errorf("generate the token key: %w", err)
	}
	private, err := encodeKey(key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encode the token key: %w", err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if err := os.WriteFile(path, private, 0o600); err != nil {
		return fmt.Errorf("write the token key: %w", err)
	}
	if err := os.WriteFile(path+".pub", public, 0o644); err != nil {
		return fmt.Errorf("write the token key: %w", err)
	}
	return nil
}

func template(id Identity) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil { // crypto/rand does not fail since Go 1.24
		serial = big.NewInt(time.Now().UnixNano())
	}
	now := time.Now()
	t := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: id.Name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(lifetime),
		KeyUsage:     x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	if id.Group != "" {
		t.Subject.Organization = []string{id.Group}
	}
	for _, host := range id.Hosts {
		if ip := net.ParseIP(host); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, host)
		}
	}
	if len(id.Hosts) > 0 {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return t
}

func encodeCert(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func encodeKey(key any) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode a key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
