package envoy

import (
	"fmt"
	"slices"
	"strings"
)

// Ciphers are those of TLS 1.2 that Envoy knows, as OpenSSL names them, the best first; but for DES-CBC3-SHA, whose blocks are
// too short (RFC 7525, section 4.2). Envoy refuses a listener that has another, and then serves no host over TLS.
var Ciphers = []string{
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305",
	"ECDHE-ECDSA-AES128-SHA256", "ECDHE-RSA-AES128-SHA256",
	"ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA", "ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA",
	"AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA",
}

// ParseCiphers reads names that are separated by commas; none are none.
func ParseCiphers(text string) ([]string, error) {
	if text == "" {
		return nil, nil
	}
	names := strings.Split(text, ",")
	for _, name := range names {
		if !slices.Contains(Ciphers, name) {
			return nil, fmt.Errorf("cipher %q is none of TLS 1.2 that Envoy knows: %s", name, strings.Join(Ciphers, ", "))
		}
	}
	return names, nil
}
