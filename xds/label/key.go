package label

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Kind is a kind of Kubernetes object that carries labels of the vocabulary.
type Kind string

// The kinds of objects that users label.
const (
	Namespace   Kind = "Namespace"
	Deployment  Kind = "Deployment"
	StatefulSet Kind = "StatefulSet"
	DaemonSet   Kind = "DaemonSet"
	Job         Kind = "Job"
	CronJob     Kind = "CronJob"
	Service     Kind = "Service"
	Pod         Kind = "Pod"
)

func (k Kind) String() string { return string(k) }

// withArticle is the kind in a sentence: a Service, an Ingress.
func (k Kind) withArticle() string {
	if k != "" && strings.IndexByte("AEIOU", k[0]) >= 0 {
		return "an " + string(k)
	}
	return "a " + string(k)
}

// portPlaceholder ends the name of a family of keys, one for each port.
const portPlaceholder = "<port>"

// A Key is one entry of the vocabulary: what users may write, and what it means.
type Key struct {
	// Name is the label's key; a name that ends in <port> stands for one key per port number.
	Name string
	// On lists the kinds of objects on which the key has a meaning.
	On []Kind
	// Of lists the protocols of ports for which the key has a meaning; none means all.
	Of []Protocol
	// Expected says in words which values are valid, with unit and range.
	Expected string
	// Default says what is in force without the label.
	Default string
	Meaning string
	// Example is a valid value.
	Example string

	// set parses value into s. port is the number in the key of a family, otherwise 0. The note tells of a value that
	// was accepted with a change.
	set func(s *Settings, port uint16, value string) (note string, err error)
}

// A valueType parses the text of a label into a T and knows the words for what it accepts.
type valueType[T any] struct {
	expected string
	parse    func(text string) (value T, note string, err error)
}

// entry completes a Key with its value's type and the field that it sets.
func entry[T any](k Key, t valueType[T], set func(s *Settings, port uint16, v T)) Key {
	k.Expected = t.expected
	k.set = func(s *Settings, port uint16, text string) (string, error) {
		v, note, err := t.parse(text)
		if err == nil {
			set(s, port, v)
		}
		return note, err
	}
	return k
}

// AppliesTo reports whether the key has a meaning on objects of that kind.
func (k Key) AppliesTo(kind Kind) bool { return slices.Contains(k.On, kind) }

// Matches reports whether the label key is this entry or one of its family, with the port of a family's key. It
// returns an error for a key of the family whose port is not a number from 1 to 65535.
func (k Key) Matches(key string) (port uint16, ok bool, err error) {
	prefix, family := strings.CutSuffix(k.Name, portPlaceholder)
	if !family {
		return 0, key == k.Name, nil
	}
	text, ok := strings.CutPrefix(key, prefix)
	if !ok {
		return 0, false, nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, true, fmt.Errorf("%q is not a port number from 1 to 65535", text)
	}
	return uint16(n), true, nil
}
