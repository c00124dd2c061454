package label

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// Ingress is the kind of object that has annotations of ours, and no labels.
const Ingress Kind = "Ingress"

// IngressPrefix begins the annotations that Ingresses have of ours. Who writes an Ingress decides about its paths alone;
// what concerns a Service is in the labels of the Service.
const IngressPrefix = "traffic.ingress/"

// The annotations of an Ingress.
const (
	RedirectKey     = IngressPrefix + "ssl-redirect"
	UpstreamKey     = IngressPrefix + "backend-protocol"
	BodyKey         = IngressPrefix + "max-request-body"
	SourceRangesKey = IngressPrefix + "allow-source-ranges"
)

// IngressSettings is what the annotations of an Ingress say. A zero field means that no valid one set it.
type IngressSettings struct {
	// NoRedirect answers plain requests for a host with a certificate, rather than send them to https.
	NoRedirect bool
	// Upstream is how the gateway speaks to the endpoints; 0 leaves it to the port's label.
	Upstream Upstream
	// MaxBody is the largest body of a request, in bytes; 0 is no limit.
	MaxBody uint32
	// Restricted says that only Sources, sorted, are let in. An annotation that is not valid lets nobody in.
	Restricted bool
	Sources    []netip.Prefix
}

// An Upstream is a protocol between the gateway and an endpoint.
type Upstream uint8

// The protocols of endpoints.
const (
	UpstreamHTTP  Upstream = iota + 1 // HTTP/1.1
	UpstreamHTTP2                     // HTTP/2 without TLS, gRPC
	UpstreamHTTPS                     // HTTP/1.1 over TLS, whatever certificate the endpoint shows
	UpstreamGRPCS                     // HTTP/2 over TLS, the same
)

var upstreamNames = map[Upstream]string{UpstreamHTTP: "http", UpstreamHTTP2: "http2", UpstreamHTTPS: "https", UpstreamGRPCS: "grpcs"}

func (u Upstream) String() string { return upstreamNames[u] }

// An IngressAnnotation is one entry of the vocabulary of annotations.
type IngressAnnotation struct {
	Name                                string
	Expected, Default, Meaning, Example string

	set func(s *IngressSettings, value string) (note string, err error)
	// wrong sets what is in force for a value that is not valid, and says it in words; nil is as without the annotation.
	wrong func(s *IngressSettings) string
}

func annotation[T any](a IngressAnnotation, t valueType[T], set func(s *IngressSettings, v T)) IngressAnnotation {
	a.Expected = t.expected
	a.set = func(s *IngressSettings, text string) (string, error) {
		v, note, err := t.parse(text)
		if err == nil {
			set(s, v)
		}
		return note, err
	}
	return a
}

// IngressTable is the vocabulary of annotations, in the order of the reference page.
var IngressTable = []IngressAnnotation{
	annotation(IngressAnnotation{
		Name: RedirectKey,
		Meaning: "Send plain requests for a host that has a certificate to https, with status 308. The challenges of ACME, below " +
			"/.well-known/acme-challenge/, are answered in any case.",
		Default: "true",
		Example: "false",
	}, boolean, func(s *IngressSettings, v bool) { s.NoRedirect = !v }),

	annotation(IngressAnnotation{
		Name: UpstreamKey,
		Meaning: "How the gateway speaks to the endpoints of the Ingress. http is HTTP/1.1, and https the same over TLS; http2, for which grpc is " +
			"another word, is HTTP/2, and grpcs the same over TLS. TLS takes whatever certificate the endpoint shows. WebSockets want http or https.",
		Default: "http2 where the Service's " + portPrefix + portPlaceholder + " label says so, otherwise http",
		Example: "grpc",
	}, upstream, func(s *IngressSettings, v Upstream) { s.Upstream = v }),

	annotation(IngressAnnotation{
		Name: BodyKey,
		Meaning: "The largest body of a request; the client gets 413 above. A request that announces its length by Content-Length is passed on " +
			"as it comes. One that does not, as a stream or an upload in chunks, is held until the gateway has all of it, and is refused above 1Mi " +
			"whatever the limit.",
		Default: "no limit",
		Example: "8Mi",
	}, bodySize, func(s *IngressSettings, v uint32) { s.MaxBody = v }),

	withWrong(annotation(IngressAnnotation{
		Name: SourceRangesKey,
		Meaning: "The addresses of clients that are let in; others get 403. A value that is not valid lets nobody in, an empty one too. The challenges of ACME " +
			"come from anywhere: their Ingress is another.",
		Default: "everybody is let in",
		Example: "10.0.0.0/8,2001:db8::/32",
	}, sourceRanges, func(s *IngressSettings, v []netip.Prefix) { s.Restricted, s.Sources = true, v }),
		func(s *IngressSettings) string { s.Restricted = true; return "nobody is let in" }),
}

func withWrong(a IngressAnnotation, wrong func(*IngressSettings) string) IngressAnnotation {
	a.wrong = wrong
	return a
}

// IsIngressAnnotation reports whether an annotation is one of ours, known or not.
func IsIngressAnnotation(key string) bool { return strings.HasPrefix(key, IngressPrefix) }

// ParseIngress reads the annotations of an Ingress. An empty value counts as absent, unless less would be
// forbidden then: a list of who is let in that has become empty lets nobody in. Problems are sorted by key.
func ParseIngress(annotations map[string]string) (IngressSettings, []Problem) {
	var (
		s        IngressSettings
		problems []Problem
	)
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		value := annotations[key]
		if !strings.HasPrefix(key, IngressPrefix) {
			continue
		}
		i := slices.IndexFunc(IngressTable, func(a IngressAnnotation) bool { return a.Name == key })
		if value == "" && (i < 0 || IngressTable[i].wrong == nil) {
			continue
		}
		if i < 0 {
			problems = append(problems, unknownAnnotation(key, value))
		} else if p := IngressTable[i].apply(&s, value); p != nil {
			problems = append(problems, *p)
		}
	}
	return s, problems
}

func (a IngressAnnotation) apply(s *IngressSettings, value string) *Problem {
	note, err := a.set(s, value)
	p := &Problem{Subject: Annotation, Key: a.Name, Value: Shortened(value), Reason: "expected " + a.Expected, InForce: a.Default}
	switch {
	case err != nil && a.wrong != nil:
		p.InForce = a.wrong(s)
	case err != nil:
	case note != "":
		p.InForce = "it " + note
	default:
		return nil
	}
	return p
}

// Shortened leaves room for the reason in an Event: an annotation or a path, other than a label, may be of 256 kB.
func Shortened(value string) string {
	const most = 100
	if len(value) <= most {
		return value
	}
	return strings.ToValidUTF8(value[:most], "") + "…"
}

func unknownAnnotation(key, value string) Problem {
	p := Problem{Subject: Annotation, Key: key, Value: Shortened(value), Reason: "no such annotation", InForce: "nothing"}
	if near := nearestAnnotation(key); near != "" {
		p.Reason += fmt.Sprintf(", did you mean %s?", near)
	}
	return p
}

// nearestAnnotation returns the known one that an unknown one is likely to stand for, or "": at most a third of what follows the
// prefix is a slip of the pen.
func nearestAnnotation(key string) string {
	best, bestDistance := "", (len(key)-len(IngressPrefix))/3+1
	for _, a := range IngressTable {
		if d := distance(key, a.Name); d < bestDistance {
			best, bestDistance = a.Name, d
		}
	}
	return best
}
