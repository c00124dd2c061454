package ingress

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"testing"
	"time"
)

// noon is when tests happen.
var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func newKey(t testing.TB) crypto.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// newPair returns a certificate for hosts, valid for a day around noon, and its key, in PEM.
func newPair(t testing.TB, key crypto.Signer, hosts ...string) (chain, pemKey []byte) {
	t.Helper()
	return newPairOf(t, key, func(template *x509.Certificate) { template.DNSNames = hosts })
}

// newPairOf is one that is different in some way.
func newPairOf(t testing.TB, key crypto.Signer, change func(*x509.Certificate)) (chain, pemKey []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: noon.Add(-12 * time.Hour), NotAfter: noon.Add(12 * time.Hour),
	}
	change(template)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
}

// TestParseCertificate: Envoy must never see what it would refuse, and whoever made it hears why.
func TestParseCertificate(t *testing.T) {
	key := newKey(t)
	chain, pemKey := newPair(t, key, "a.example")
	_, otherKey := newPair(t, newKey(t), "a.example")
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	shortChain, shortKey := newPair(t, short, "a.example")
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224Chain, p224Key := newPair(t, p224, "a.example")
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edChain, edKey := newPair(t, ed, "a.example")
	usageChain, usageKey := newPairOf(t, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageKeyAgreement })
	signsChain, signsKey := newPairOf(t, key, func(c *x509.Certificate) { c.KeyUsage = x509.KeyUsageDigitalSignature })
	stapleChain, stapleKey := newPairOf(t, key, func(c *x509.Certificate) {
		c.ExtraExtensions = []pkix.Extension{{Id: tlsFeature, Value: []byte{0x30, 3, 2, 1, 5}}}
	})
	nobodyChain, nobodyKey := newPairOf(t, key, func(c *x509.Certificate) { c.Subject = pkix.Name{Organization: []string{"a"}} })
	tests := []struct {
		name       string
		chain, key []byte
		wrong      string
	}{
		{name: "good", chain: chain, key: pemKey},
		{name: "with a chain, and words between", chain: append(append([]byte("subject=me\n"), chain...), chain...), key: pemKey},
		{name: "empty", wrong: "tls.crt or tls.key is empty"},
		{name: "no PEM", chain: []byte("MIIB"), key: pemKey, wrong: "tls.crt and tls.key are no pair: tls: failed to find any PEM data in certificate input"},
		{name: "another key", chain: chain, key: otherKey, wrong: "tls.crt and tls.key are no pair: tls: private key does not match public key"},
		{name: "a short RSA key", chain: shortChain, key: shortKey, wrong: "an RSA key of 1024 bits is too short: at least 2048"},
		{name: "an old curve", chain: p224Chain, key: p224Key, wrong: "a key on curve P-224 is not supported: P-256, P-384 or P-521"},
		{name: "Ed25519", chain: edChain, key: edKey, wrong: "a key of type Ed25519 is not supported: RSA or ECDSA"},
		{name: "a key that signs", chain: signsChain, key: signsKey},
		{
			name: "a key that does not sign", chain: usageChain, key: usageKey,
			wrong: "the certificate's key usage lacks digitalSignature, which is all that an ECDSA key does in TLS",
		},
		{
			name: "to be stapled", chain: stapleChain, key: stapleKey,
			wrong: "the certificate must be stapled (its TLS feature extension says so), which the gateway does not do",
		},
		{
			name: "nobody's", chain: nobodyChain, key: nobodyKey,
			wrong: "the certificate names nobody: it has neither a common name nor a subject alternative name",
		},
		{
			name: "rubbish in the chain", key: pemKey, wrong: "a certificate of the chain in tls.crt: x509: malformed certificate",
			chain: append(append([]byte{}, chain...), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})...),
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, err := parseCertificate(test.chain, test.key)
			var told string
			if err != nil {
				told = err.Error()
			}
			if told != test.wrong {
				t.Fatalf("%q, want %q", told, test.wrong)
			}
			if err == nil && (len(c.pair.Chain) == 0 || len(c.pair.Key) == 0) {
				t.Error("nothing for Envoy")
			}
		})
	}
}

// TestKeysThatNobodyReads: whoever may write a Secret would keep the control plane busy, for minutes or hours. The test ends at once, or
// not before crypto/rsa does.
func TestKeysThatNobodyReads(t *testing.T) {
	chain, _ := newPair(t, newKey(t), "a.example")
	long := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(1), 200_000), big.NewInt(1))
	three, one := big.NewInt(3), big.NewInt(1)
	longPrime, err := asn1.Marshal(rsaPrivateKey{N: three, E: three, D: one, P: long, Q: three, DP: new(big.Int), DQ: new(big.Int), QInv: new(big.Int)})
	if err != nil {
		t.Fatal(err)
	}
	info, err := asn1.Marshal(privateKeyInfo{
		Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1}, Parameters: asn1.NullRawValue},
		Key:       longPrime,
	})
	if err != nil {
		t.Fatal(err)
	}
	for kind, der := range map[string][]byte{"RSA PRIVATE KEY": longPrime, "PRIVATE KEY": info} {
		_, err := parseCertificate(chain, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
		want := "a number in the RSA key has 200001 bits: at most 4096, since a handshake takes the time of all hosts"
		if err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", kind, err, want)
		}
	}
}

// TestRSASizes: with a long key, whoever begins a few handshakes a second keeps the gateway's workers from all other hosts.
func TestRSASizes(t *testing.T) {
	for bits, want := range map[int]string{
		2047: "an RSA key of 2047 bits is too short: at least 2048", 2048: "", 4096: "",
		4097: "an RSA key of 4097 bits is too long: at most 4096, since a handshake takes the time of all hosts",
	} {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		var told string
		if err := keyFits(&x509.Certificate{PublicKey: &rsa.PublicKey{N: n, E: 65537}}); err != nil {
			told = err.Error()
		}
		if told != want {
			t.Errorf("%d bits: %q, want %q", bits, told, want)
		}
	}
}

// TestCovers: whoever has a certificate that clients do not take for a host is told. However many names are in it, that costs no time
// of the one goroutine that serves everybody: a Secret has room for thousands, and an Ingress for a thousand hosts.
func TestCovers(t *testing.T) {
	names := []string{"a.example", "B.example", "*.c.example", "example"}
	for n := range 1000 {
		names = append(names, fmt.Sprintf("%d.d.example", n))
	}
	chain, key := newPair(t, newKey(t), names...)
	c, err := parseCertificate(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	for host, want := range map[string]bool{
		"a.example": true, "b.example": true, "x.c.example": true, "*.c.example": true, "example": true, "999.d.example": true,
		"c.example": false, "x.a.example": false, "x.y.c.example": false, "*.example": false, "other": false, "1000.d.example": false,
	} {
		if got := c.covers(host); got != want {
			t.Errorf("it is for %s: %t", host, got)
		}
		if host[0] != '*' && (c.leaf.VerifyHostname(host) == nil) != want {
			t.Errorf("a client does not think so of %s", host)
		}
	}
	if n := testing.AllocsPerRun(10, func() { c.covers("z.example") }); n > 1 {
		t.Errorf("one host takes %g allocations", n)
	}
}

// FuzzParseCertificate: a Secret of any content leaves the control plane running, and what passes once passes again.
func FuzzParseCertificate(f *testing.F) {
	chain, key := newPair(f, newKey(f), "a.example")
	f.Add(chain, key)
	f.Add([]byte("-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n"), key)
	f.Fuzz(func(t *testing.T, chain, key []byte) {
		c, err := parseCertificate(chain, key)
		if err != nil {
			return
		}
		if _, err := parseCertificate(c.pair.Chain, c.pair.Key); err != nil {
			t.Errorf("what it wrote it does not read: %v", err)
		}
	})
}
