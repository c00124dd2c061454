// Package redirect is the contract between the webhook and the CNI plugin: the
// redirect spec, how it is written as one pod annotation, and the rules that it
// stands for. It is pure; package apply puts the rules into a network namespace.
//
// A spec is untrusted input on both sides, so both validate it in full. It can
// only ever affect the network namespace of the pod that carries it.
package redirect

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
)

// Annotation is the pod annotation that carries the spec. The webhook writes
// it, the container runtime hands it to the CNI plugin, nobody else needs it.
const Annotation = "traffic.envoy.redirect"

// Version is the version of the spec that this code writes and reads. A field
// that changes what happens to a pod's traffic needs a new version, so that an
// older plugin refuses the pod instead of redirecting it differently.
const Version = 1

// Limits of one spec. MaxBytes holds any spec within the other two.
const (
	MaxBytes        = 16 << 10
	MaxExcludeCIDRs = 128
	MaxExcludePorts = 128
)

// What traffic-verify dials to see whether its pod is redirected: addresses of
// the documentation ranges TEST-NET-2 (RFC 5737) and 2001:db8::/32 (RFC 3849),
// so no real service is hidden. They are redirected whatever is excluded, and
// the sidecar's bootstrap answers them with its own node id.
const (
	VerifyIPv4        = "198.51.100.100"
	VerifyIPv6        = "2001:db8::c633:6464"
	VerifyPort uint16 = 80
)

// Spec says which connections of a pod go to its proxy: all outbound TCP
// connections but those of the proxy itself and those excluded.
type Spec struct {
	// Version of the spec; must be Version.
	Version int `json:"version"`
	// ProxyUID is the user id whose connections are left alone, as seen inside
	// the pod; 1 to 4294967294.
	ProxyUID uint32 `json:"proxyUID"`
	// ProxyPort is the port on loopback that receives redirected connections;
	// 1 to 65535. It is closed to everything outside the pod.
	ProxyPort uint16 `json:"proxyPort"`
	// ExcludeCIDRs are destinations that are left alone, IPv4 and IPv6, without
	// host bits, at most MaxExcludeCIDRs.
	ExcludeCIDRs []netip.Prefix `json:"excludeCIDRs,omitempty"`
	// ExcludePorts are destination ports that are left alone, at most
	// MaxExcludePorts.
	ExcludePorts []PortRange `json:"excludePorts,omitempty"`
}

// Validate reports every value out of range, each by field and value.
func (s Spec) Validate() error {
	var errs []error
	if s.Version != Version {
		errs = append(errs, fmt.Errorf("version %d: this program knows version %d only; the webhook and the CNI plugin must be of one release", s.Version, Version))
	}
	if s.ProxyUID == 0 || s.ProxyUID == math.MaxUint32 {
		errs = append(errs, fmt.Errorf("proxyUID %d: must be 1 to %d", s.ProxyUID, uint32(math.MaxUint32-1)))
	}
	if s.ProxyPort == 0 {
		errs = append(errs, errors.New("proxyPort 0: must be 1 to 65535"))
	}
	if n := len(s.ExcludeCIDRs); n > MaxExcludeCIDRs {
		errs = append(errs, fmt.Errorf("excludeCIDRs: %d entries, at most %d are possible", n, MaxExcludeCIDRs))
	}
	for i, p := range s.ExcludeCIDRs {
		if err := validatePrefix(p); err != nil {
			errs = append(errs, fmt.Errorf("excludeCIDRs[%d] %q: %w", i, p, err))
		}
	}
	if n := len(s.ExcludePorts); n > MaxExcludePorts {
		errs = append(errs, fmt.Errorf("excludePorts: %d entries, at most %d are possible", n, MaxExcludePorts))
	}
	for i, r := range s.ExcludePorts {
		if err := r.validate(); err != nil {
			errs = append(errs, fmt.Errorf("excludePorts[%d] %q: %w", i, r, err))
		}
	}
	return errors.Join(errs...)
}

func validatePrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid():
		return errors.New("not an address prefix")
	case p.Addr().Is4In6():
		return errors.New("an IPv4 prefix must be written as IPv4")
	case p != p.Masked():
		return fmt.Errorf("has host bits set; write %s", p.Masked())
	}
	return nil
}

// Encode validates s and returns the annotation's value. Equal specs give equal
// values.
func Encode(s Spec) (string, error) {
	if err := s.Validate(); err != nil {
		return "", fmt.Errorf("redirect spec: %w", err)
	}
	b, err := json.Marshal(s)
	if err != nil {
		return "", fmt.Errorf("redirect spec: %w", err)
	}
	return string(b), nil
}

// Decode reads an annotation's value and validates it. Unknown, repeated and
// differently spelled fields, anything after the object, and a value above
// MaxBytes are errors.
func Decode(value string) (Spec, error) {
	s, err := decode(value)
	if err != nil {
		return Spec{}, fmt.Errorf("redirect spec: %w", err)
	}
	if err := s.Validate(); err != nil {
		return Spec{}, fmt.Errorf("redirect spec: %w", err)
	}
	return s, nil
}

// decode walks the object by hand because encoding/json takes keys of any case
// and lets the last of two equal keys win: two readers could then disagree.
func decode(value string) (Spec, error) {
	var s Spec
	if len(value) > MaxBytes {
		return s, fmt.Errorf("%d bytes long, at most %d are possible", len(value), MaxBytes)
	}
	fields := map[string]any{
		"version":      &s.Version,
		"proxyUID":     &s.ProxyUID,
		"proxyPort":    &s.ProxyPort,
		"excludeCIDRs": &s.ExcludeCIDRs,
		"excludePorts": &s.ExcludePorts,
	}
	dec := json.NewDecoder(bytes.NewReader([]byte(value)))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return s, fmt.Errorf("%s is not a JSON object", abbreviate(value))
	}
	for dec.More() {
		if err := decodeField(dec, fields); err != nil {
			return s, err
		}
	}
	if _, err := dec.Token(); err != nil {
		return s, fmt.Errorf("object is not closed: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return s, errors.New("something follows the JSON object")
	}
	return s, nil
}

// decodeField reads one key and its value into fields[key], once per key.
func decodeField(dec *json.Decoder, fields map[string]any) error {
	t, err := dec.Token()
	if err != nil {
		return fmt.Errorf("not valid JSON: %w", err)
	}
	key, ok := t.(string)
	if !ok {
		return fmt.Errorf("%v is not a field name", t)
	}
	target, ok := fields[key]
	if !ok {
		return fmt.Errorf("unknown or repeated field %s", abbreviate(key))
	}
	delete(fields, key)
	var raw json.RawMessage
	if err := dec.Decode(&raw); err != nil {
		return fmt.Errorf("%s: not valid JSON: %w", key, err)
	}
	if err := json.Unmarshal(raw, target); err != nil {
		return fmt.Errorf("%s %s: %w", key, abbreviate(string(raw)), err)
	}
	return nil
}

// abbreviate quotes untrusted text for an error message and bounds its length.
func abbreviate(s string) string {
	const limit = 80
	if len(s) > limit {
		return fmt.Sprintf("%q...", s[:limit])
	}
	return fmt.Sprintf("%q", s)
}
