package ingress

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	networkingv1 "k8s.io/api/networking/v1"
)

// Challenges begins the paths where ACME asks (RFC 8555, section 8.3), which are never redirected.
const Challenges = "/.well-known/acme-challenge/"

// IsChallenge reports whether a route is there to answer ACME.
func (r Route) IsChallenge() bool { return strings.HasPrefix(r.Path, Challenges) }

// longestPath is in bytes; servers need not take longer targets (RFC 9110, section 4.1). Envoy refuses all hosts' routes for one
// regular expression that is larger than the gateway's bootstrap allows.
const longestPath = 8000

// parsePath returns a path of a rule as the gateway compares it with normalized ones. The error says why no request can have
// such a path.
func parsePath(text string, kind *networkingv1.PathType) (string, Match, error) {
	match, ok := map[networkingv1.PathType]Match{
		networkingv1.PathTypeExact:                  Exact,
		networkingv1.PathTypePrefix:                 Prefix,
		networkingv1.PathTypeImplementationSpecific: TextPrefix,
	}[pathType(kind)]
	if !ok {
		return "", 0, fmt.Errorf("path type %s is not known", *kind)
	}
	if text == "" {
		text = "/"
	}
	if text[0] != '/' {
		return "", 0, errors.New("a path begins with a slash")
	}
	if i := strings.IndexAny(text, "?#"); i >= 0 {
		return "", 0, fmt.Errorf("no path of a request has a %q: what follows it is not part of the path", text[i])
	}
	path, err := normalize(text)
	if err != nil {
		return "", 0, err
	}
	if len(path) > longestPath {
		return "", 0, fmt.Errorf("a path of more than %d bytes is too long", longestPath)
	}
	if bad := abnormal(path); bad != "" {
		return "", 0, fmt.Errorf("no path has %q once it is normalized", bad)
	}
	if match == Prefix && path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	return path, match, nil
}

func pathType(kind *networkingv1.PathType) networkingv1.PathType {
	if kind == nil {
		return networkingv1.PathTypeImplementationSpecific
	}
	return *kind
}

// abnormal returns what of a path the gateway resolves before it compares: such a rule would match nothing, or what its
// author did not mean.
func abnormal(path string) string {
	for _, part := range []string{"//", "/./", "/../", `\`} {
		if strings.Contains(path, part) {
			return part
		}
	}
	for _, end := range []string{"/.", "/.."} {
		if strings.HasSuffix(path, end) {
			return end
		}
	}
	for _, escaped := range []string{"%00", "%2F", "%5C"} {
		if strings.Contains(path, escaped) {
			return escaped
		}
	}
	return ""
}

// normalize does to the percent-encoding of a path what Envoy does: what needs none loses it (RFC 3986, section 2.3), and
// what cannot stand in a path gets it. Envoy leaves the case of hex digits as it comes; here it is the upper, for either.
func normalize(path string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(path); i++ {
		c := path[i]
		switch {
		case c == '%':
			decoded, ok := unhex(path[i+1:])
			if !ok {
				return "", errors.New("no path of a request has a percent sign that encodes nothing")
			}
			i += 2
			if c = decoded; unreserved(c) {
				b.WriteByte(c)
				continue
			}
		case c > ' ' && c < 0x7f && strings.IndexByte("\"<>^`{|}", c) < 0:
			b.WriteByte(c)
			continue
		}
		fmt.Fprintf(&b, "%%%02X", c)
	}
	return b.String(), nil
}

// unhex decodes the two digits at the beginning of a text.
func unhex(text string) (byte, bool) {
	if len(text) < 2 {
		return 0, false
	}
	decoded, err := hex.DecodeString(text[:2])
	if err != nil {
		return 0, false
	}
	return decoded[0], true
}

func unreserved(c byte) bool {
	return 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || strings.IndexByte("-._~", c) >= 0
}

// TakesChallenges reports whether a route is for the paths of challenges among others.
func (r Route) TakesChallenges() bool {
	switch r.Match {
	case Default:
		return true
	case Prefix:
		return r.Path == "/" || strings.HasPrefix(Challenges, r.Path+"/")
	case TextPrefix:
		return strings.HasPrefix(Challenges, r.Path)
	case Exact:
	}
	return false
}
