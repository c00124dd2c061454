package patch

import (
	"encoding/json"
	"maps"
	"testing"
	"unicode/utf8"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/google/go-cmp/cmp"
)

// TestApplied: names that look like paths, and what JSON must escape, end where they were meant.
func TestApplied(t *testing.T) {
	const document = `{"m":{"a/b":"1","c~d":"2","~1":"3","é\"":"4","":"5","k":"same"},"l":[1,2],"empty":{}}`
	set, err := Set(Of("m"), map[string]string{"a/b": "1", "c~d": "2", "k": "same"}, map[string]string{"a/b": "y", "c~d": "x/~\"\n", "k": "same", "new": ""})
	if err != nil {
		t.Fatal(err)
	}
	whole, err := Set(Of("other"), nil, map[string]string{"k/~": "v"})
	if err != nil {
		t.Fatal(err)
	}
	nothing, err := Set(Of("no"), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	ops := append(append(append(set, whole...), nothing...),
		Remove(Of("m").Member("~1")), Remove(Of("m", "é\"")), Remove(Of("m", "")),
		Add(Of("l").Index(0), jsontext.Value("0")), Add(Of("l").End(), jsontext.Value("3")), Remove(Of("l").Index(1)),
		Move(Of("l").Index(2), Of("l").Index(0)), Move(Of("l").Index(0), Of("m").Member("to/~")))
	text, err := Append(nil, ops)
	if err != nil {
		t.Fatal(err)
	}
	again, err := json.Marshal(ops)
	if err != nil || string(again) != string(text) {
		t.Errorf("json.Marshal gives %s, %v; Marshal gave %s", again, err, text)
	}
	patch, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := patch.Apply([]byte(document))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	var got, want any
	if err := json.Unmarshal(raw, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{"m":{"a/b":"y","k":"same","c~d":"x/~\"\n","new":"","to/~":3},"l":[0,2],"empty":{},"other":{"k/~":"v"}}`), &want); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if len(set) != 3 {
		t.Errorf("%d operations for three members that differ", len(set))
	}
}

// TestPathsAreValues: a path made from another must not change a third.
func TestPathsAreValues(t *testing.T) {
	base := append(make(Path, 0, 8), "a", "b", "c")
	first, second := base.Member("x"), base.Member("y")
	if first.String() != "/a/b/c/x" || second.String() != "/a/b/c/y" {
		t.Errorf("%s, %s", first, second)
	}
}

// FuzzSet: whatever the names and values are, an object of strings has those that were wanted afterwards, and its others.
func FuzzSet(f *testing.F) {
	f.Add("a/b", "1", "a~1b", "2", true)
	f.Add("~", "\"", "", "\u2028\x00", false)
	f.Add("-", "same", "-", "same", true)
	f.Fuzz(func(t *testing.T, name, value, wanted, wantedValue string, there bool) {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return // no JSON has it
		}
		var have map[string]string
		if there {
			have = map[string]string{name: value}
		}
		object := "m" + wanted
		ops, err := Set(Of(object), have, map[string]string{wanted: wantedValue})
		if !utf8.ValidString(wanted) || !utf8.ValidString(wantedValue) {
			return // an error, or nothing worse
		}
		if err != nil {
			t.Fatal(err)
		}
		document := map[string]map[string]string{}
		if there {
			document[object] = have
		}
		got := applied(t, document, ops)
		want := map[string]string{}
		maps.Copy(want, have)
		want[wanted] = wantedValue
		if diff := cmp.Diff(want, got[object]); diff != "" {
			t.Error(diff)
		}
	})
}

// applied is the document after the operations.
func applied[T any](t *testing.T, document T, ops []Operation) (after T) {
	raw, err := json.Marshal(document)
	if err != nil {
		t.Fatal(err)
	}
	if len(ops) > 0 {
		text, err := Append(nil, ops)
		if err != nil {
			t.Fatal(err)
		}
		patch, err := jsonpatch.DecodePatch(text)
		if err != nil {
			t.Fatalf("%v: %s", err, text)
		}
		if raw, err = patch.Apply(raw); err != nil {
			t.Fatalf("%v: %s", err, text)
		}
	}
	if err := json.Unmarshal(raw, &after); err != nil {
		t.Fatal(err)
	}
	return after
}
