package ingress

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
)

// An rsaPrivateKey is RSAPrivateKey (RFC 8017, appendix A.1.2).
type rsaPrivateKey struct {
	Version       int
	N, E, D, P, Q *big.Int
	DP, DQ, QInv  *big.Int         `asn1:"optional"`
	Others        []otherPrimeInfo `asn1:"optional,omitempty"`
}

// An otherPrimeInfo is OtherPrimeInfo of the same.
type otherPrimeInfo struct{ R, D, T *big.Int }

// mostOthers is more primes than anybody uses beside the first two.
const mostOthers = 3

// A privateKeyInfo is PrivateKeyInfo (RFC 5208, section 5), which has an rsaPrivateKey in it.
type privateKeyInfo struct {
	Version   int
	Algorithm pkix.AlgorithmIdentifier
	Key       []byte
}

// canBeRead looks at the numbers of RSA keys before crypto/rsa does: it computes with whatever they are before it finds that they
// are no key, with a prime of 370,000 bits, which is 45 kB, for hours.
func canBeRead(keys []byte) error {
	for {
		var block *pem.Block
		if block, keys = pem.Decode(keys); block == nil {
			return nil
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if err := numbersFit(block.Bytes); err != nil {
			return err
		}
		var info privateKeyInfo
		if _, err := asn1.Unmarshal(block.Bytes, &info); err == nil {
			if err := numbersFit(info.Key); err != nil {
				return err
			}
		}
	}
}

// numbersFit is about what parses as an RSA key; crypto/x509 tells of all else.
func numbersFit(der []byte) error {
	var key rsaPrivateKey
	if _, err := asn1.Unmarshal(der, &key); err != nil {
		return nil //nolint:nilerr // no RSA key
	}
	if len(key.Others) > mostOthers {
		return fmt.Errorf("an RSA key of %d primes is not supported", 2+len(key.Others))
	}
	numbers := []*big.Int{key.N, key.E, key.D, key.P, key.Q, key.DP, key.DQ, key.QInv}
	for _, other := range key.Others {
		numbers = append(numbers, other.R, other.D, other.T)
	}
	for _, n := range numbers {
		if n != nil && n.BitLen() > mostRSA {
			return fmt.Errorf("a number in the RSA key has %d bits: at most %d, since a handshake takes the time of all hosts", n.BitLen(), mostRSA)
		}
	}
	return nil
}
