// Package patch builds JSON patches (RFC 6902) with paths that are escaped as JSON pointers (RFC 6901).
package patch

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
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

// An Operation changes a document in one place.
type Operation struct {
	// Op is "add", "remove" or "move".
	Op   string
	Path Path
	// From is where what is moved was.
	From Path
	// Value is what is added; it must be valid JSON.
	Value jsontext.Value
}

// Add sets a member, or puts an element before the one at an index.
func Add(p Path, value jsontext.Value) Operation {
	return Operation{Op: "add", Path: p, Value: value}
}

// Remove takes a value out. It must be there.
func Remove(p Path) Operation { return Operation{Op: "remove", Path: p} }

// Move takes a value out and adds it elsewhere, a place that is counted without it.
func Move(from, to Path) Operation { return Operation{Op: "move", Path: to, From: from} }

// Set gives an object of strings these members and leaves its others alone. A nil have means that there is no object
// yet. Members that are right already cost nothing.
func Set(object Path, have, want map[string]string) ([]Operation, error) {
	if len(want) == 0 {
		return nil, nil
	}
	if have == nil {
		value, err := json.Marshal(want, json.Deterministic(true))
		if err != nil {
			return nil, fmt.Errorf("members of %s: %w", object, err)
		}
		return []Operation{Add(object, value)}, nil
	}
	var ops []Operation
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, ok := have[name]; ok && value == want[name] {
			continue
		}
		value, err := jsontext.AppendQuote(nil, want[name])
		if err != nil {
			return nil, fmt.Errorf("member %s of %s: %w", name, object, err)
		}
		ops = append(ops, Add(object.Member(name), value))
	}
	return ops, nil
}

// Append appends the patch as JSON. Values are not looked at again: most are the same in every patch.
func Append(text []byte, ops []Operation) ([]byte, error) {
	size := 2
	for _, op := range ops {
		size += len(op.Value) + 128
	}
	text = append(slices.Grow(text, size), '[')
	for i, op := range ops {
		if i > 0 {
			text = append(text, ',')
		}
		var err error
		if text, err = op.append(text); err != nil {
			return nil, err
		}
	}
	return append(text, ']'), nil
}

// MarshalJSON returns the one operation as JSON.
func (o Operation) MarshalJSON() ([]byte, error) { return o.append(nil) }

func (o Operation) append(text []byte) ([]byte, error) {
	text = append(text, `{"op":"`+o.Op+`","path":`...)
	text, err := jsontext.AppendQuote(text, o.Path.String())
	if err != nil {
		return nil, fmt.Errorf("path %q: %w", o.Path, err)
	}
	if o.From != nil {
		if text, err = jsontext.AppendQuote(append(text, `,"from":`...), o.From.String()); err != nil {
			return nil, fmt.Errorf("path %q: %w", o.From, err)
		}
	}
	if o.Value != nil {
		text = append(append(text, `,"value":`...), o.Value...)
	}
	return append(text, '}'), nil
}
