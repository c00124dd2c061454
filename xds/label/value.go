package label

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// A Protocol says how Envoy handles an open port.
type Protocol uint8

// The protocols of an open port.
const (
	HTTP   Protocol = iota + 1 // HTTP/1.1, balanced per request
	HTTP2                      // HTTP/2 and gRPC, balanced per request
	TCP                        // bytes, balanced per connection
	Direct                     // bytes, to the address that the client dialled
)

var protocolNames = map[Protocol]string{HTTP: "http", HTTP2: "http2", TCP: "tcp", Direct: "direct"}

func (p Protocol) String() string {
	if name, ok := protocolNames[p]; ok {
		return name
	}
	return "blocked"
}

// errNotValid is the parse error of values for which their type's words say all there is to say.
var errNotValid = errors.New("not valid")

var boolean = valueType[bool]{
	expected: "true or false",
	parse: func(text string) (bool, string, error) {
		switch strings.ToLower(text) {
		case "true":
			return true, "", nil
		case "false":
			return false, "", nil
		}
		return false, "", errNotValid
	},
}

var protocol = valueType[Protocol]{
	expected: "http, http2, grpc, tcp or direct",
	parse: func(text string) (Protocol, string, error) {
		switch strings.ToLower(text) {
		case "http":
			return HTTP, "", nil
		case "http2", "grpc":
			return HTTP2, "", nil
		case "tcp":
			return TCP, "", nil
		case "direct":
			return Direct, "", nil
		}
		return 0, "", errNotValid
	},
}

var weight = valueType[uint32]{
	expected: fmt.Sprintf("an integer from 0 to %d", MaxWeight),
	parse: func(text string) (uint32, string, error) {
		n, err := strconv.ParseUint(text, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange), err == nil && n > MaxWeight:
			return MaxWeight, fmt.Sprintf("counts as %d, the largest weight", MaxWeight), nil
		case err != nil:
			return 0, "", errNotValid
		}
		return uint32(n), "", nil
	},
}

// A Policy says how Envoy picks an endpoint; the zero value is RoundRobin.
type Policy uint8

// The load-balancing policies.
const (
	RoundRobin Policy = iota
	LeastRequest
	RingHash
	Random
	Maglev
)

var policies = []string{RoundRobin: "ROUND_ROBIN", LeastRequest: "LEAST_REQUEST", RingHash: "RING_HASH", Random: "RANDOM", Maglev: "MAGLEV"}

func (p Policy) String() string { return policies[p] }

var policy = valueType[Policy]{
	expected: "ROUND_ROBIN, LEAST_REQUEST, RING_HASH, RANDOM or MAGLEV",
	parse: func(text string) (Policy, string, error) {
		for p, name := range policies {
			if strings.EqualFold(text, name) {
				return Policy(p), "", nil
			}
		}
		return 0, "", errNotValid
	},
}

var tokens = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// token is the name of a header or cookie, as far as a label's value can be one (RFC 9110, section 5.6.2).
var token = valueType[string]{
	expected: "letters, digits, '-', '_' and '.'",
	parse: func(text string) (string, string, error) {
		if !tokens.MatchString(text) {
			return "", "", errNotValid
		}
		return text, "", nil
	},
}

var (
	number   = integer(0, math.MaxUint32, "an integer from 0 to 4294967295")
	positive = integer(1, math.MaxUint32, "an integer from 1 to 4294967295")
	status   = integer(200, 599, "an HTTP status from 200 to 599")
)

func integer(least, most uint32, expected string) valueType[uint32] {
	return valueType[uint32]{
		expected: expected,
		parse: func(text string) (uint32, string, error) {
			n, err := strconv.ParseUint(text, 10, 32)
			if err != nil || uint32(n) < least || uint32(n) > most {
				return 0, "", errNotValid
			}
			return uint32(n), "", nil
		},
	}
}
