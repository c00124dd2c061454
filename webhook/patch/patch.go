// Package patch builds JSON patch operations (RFC 6902) with paths that are escaped as JSON pointers (RFC 6901).
package patch

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"gomodules.xyz/jsonpatch/v2"
)

// A Path is the way to a value from the document's root, one member name or array index per element.
type Path []string

// Of makes a path from member names.
func Of(names ...string) Path { return names }

// Member is the path to a member of the object at p.
func (p Path) Member(name string) Path { return append(slices.Clip(p), name) }

// Index is the path to the i-th element of the array at p.
func (p Path) Index(i int) Path { return p.Member(strconv.Itoa(i)) }

// End is the path behind the last element of the array at p.
func (p Path) End() Path { return p.Member("-") }

var escape = strings.NewReplacer("~", "~0", "/", "~1")

// String is the JSON pointer.
func (p Path) String() string {
	var b strings.Builder
	for _, name := range p {
		b.WriteByte('/')
		b.WriteString(escape.Replace(name))
	}
	return b.String()
}

// Add sets a member, or puts an element before the one at an index.
func Add(p Path, value any) jsonpatch.Operation {
	return jsonpatch.NewOperation("add", p.String(), value)
}

// Remove takes a value out. It must be there.
func Remove(p Path) jsonpatch.Operation {
	return jsonpatch.NewOperation("remove", p.String(), nil)
}

// Set gives an object of strings these members and leaves its others alone. A nil have means that there is no object
// yet. Members that are right already cost nothing.
func Set(object Path, have, want map[string]string) []jsonpatch.Operation {
	if len(want) == 0 {
		return nil
	}
	if have == nil {
		return []jsonpatch.Operation{Add(object, want)}
	}
	var ops []jsonpatch.Operation
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, ok := have[name]; !ok || value != want[name] {
			ops = append(ops, Add(object.Member(name), want[name]))
		}
	}
	return ops
}
