package label

import (
	"errors"
	"fmt"
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
