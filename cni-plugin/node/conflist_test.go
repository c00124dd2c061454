package node

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

func testEntry(t testing.TB) []byte {
	t.Helper()
	b, err := json.Marshal(plugin.NewEntry("auto", false))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const e = `{"type":"traffic-cni","capabilities":{"io.kubernetes.cri.pod-annotations":true},"backend":"auto"}`

// An administrator who compares the file before and after sees our line and no
// other.
func TestInsert(t *testing.T) {
	for name, c := range map[string]struct{ before, after string }{
		"indented": {
			"{\n  \"name\": \"k8s\",\n  \"plugins\": [\n    {\n      \"type\": \"bridge\",\n      \"mtu\": 1.50e3\n    },\n    {\"type\": \"portmap\"}\n  ]\n}\n",
			"{\n  \"name\": \"k8s\",\n  \"plugins\": [\n    {\n      \"type\": \"bridge\",\n      \"mtu\": 1.50e3\n    },\n    {\"type\": \"portmap\"},\n    " + e + "\n  ]\n}\n",
		},
		"one line":           {`{"plugins":[{"type":"a"}],"name":"x"}`, `{"plugins":[{"type":"a"},` + e + `],"name":"x"}`},
		"spaces":             {`{ "plugins" : [ {"type":"a"} ] }`, `{ "plugins" : [ {"type":"a"}, ` + e + ` ] }`},
		"tabs and CRLF":      {"{\"plugins\":[\r\n\t{\"type\":\"a\"}\r\n]}", "{\"plugins\":[\r\n\t{\"type\":\"a\"},\r\n\t" + e + "\r\n]}"},
		"plugins elsewhere":  {`{"x":{"plugins":[1]},"plugins":[{"type":"a","plugins":[]}]}`, `{"x":{"plugins":[1]},"plugins":[{"type":"a","plugins":[]},` + e + `]}`},
		"last key counts":    {`{"plugins":[{"type":"a"}],"plugins":[{"type":"b"}]}`, `{"plugins":[{"type":"a"}],"plugins":[{"type":"b"},` + e + `]}`},
		"escaped name":       {`{"name":"a\"],[","plugins":[{"type":"a]}"}]}`, `{"name":"a\"],[","plugins":[{"type":"a]}"},` + e + `]}`},
		"there already":      {`{"plugins":[{"type":"a"},` + e + `]}`, `{"plugins":[{"type":"a"},` + e + `]}`},
		"there, not last":    {`{"plugins":[{"type":"a"},` + e + `,{"type":"z"}]}`, `{"plugins":[{"type":"a"},` + e + `,{"type":"z"}]}`},
		"there, reformatted": {`{"plugins":[{"type":"a"}, {"backend": "auto", "capabilities": {"io.kubernetes.cri.pod-annotations": true}, "type": "traffic-cni"}]}`, `{"plugins":[{"type":"a"}, {"backend": "auto", "capabilities": {"io.kubernetes.cri.pod-annotations": true}, "type": "traffic-cni"}]}`},
		"another release's":  {`{"plugins":[{"type":"a"},{"type":"traffic-cni","old":1},{"type":"z"}]}`, `{"plugins":[{"type":"a"},{"type":"z"},` + e + `]}`},
		"before the network": {`{"plugins":[` + e + `, {"type":"a"}]}`, `{"plugins":[{"type":"a"},` + e + `]}`},
		"twice":              {`{"plugins":[{"type":"a"},` + e + `,` + e + `]}`, `{"plugins":[{"type":"a"},` + e + `]}`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := insert([]byte(c.before), testEntry(t))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.after, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// A file that cannot be read is left alone, with the reason.
func TestInsertRefuses(t *testing.T) {
	for list, want := range map[string]string{
		``:                                    "not valid JSON",
		`[]`:                                  "was expected",
		`{"name":"x"}`:                        "has no plugins of its own",
		`{"plugins":[]}`:                      "has no plugins of its own",
		`{"plugins":{}}`:                      "key plugins",
		`{"plugins":["bridge"]}`:              "element 0",
		`{"plugins":[{"type":"a"}]`:           "not valid JSON",
		`{"plugins":[{"type":"a"}],"x":01}`:   "not valid JSON",
		`{"plugins":[{"type":"a"}]}{}`:        "something follows",
		"{\"plugins\":[" + e + "]}":           "only plugin",
		"{\"plugins\":[" + e + "," + e + "]}": "only plugin",
	} {
		if got, err := insert([]byte(list), testEntry(t)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %s, %v; want %q", list, got, err, want)
		}
	}
}

// anyList draws a conflist of any formatting that holds no entry of ours.
func anyList(t *rapid.T) []byte {
	space := rapid.SampledFrom([]string{"", " ", "\n  ", "\t", "\r\n", "\n\n    "})
	value := rapid.SampledFrom([]string{`1.50e3`, `-0`, `"a\u0062\/\""`, `[1, {"plugins": []}]`, `{"type":"traffic-cni"}`, `null`, `12345678901234567890`})
	s := func() string { return space.Draw(t, "space") }
	var plugins []string
	for range rapid.IntRange(1, 4).Draw(t, "plugins") {
		plugins = append(plugins, fmt.Sprintf(`{%s"type":%s"p%d"%s,%s"x":%s%s}`, s(), s(), len(plugins), s(), s(), value.Draw(t, "value"), s()))
	}
	list := s() + "{" + s() + `"name":"net",` + s() + `"cniVersion"` + s() + `:"1.1.0",` + s() + `"vendor":` + value.Draw(t, "vendor") + `,"plugins":` + s() + `[` + s() + strings.Join(plugins, s()+","+s()) + s() + "]" + s()
	if rapid.Bool().Draw(t, "more") {
		list += `,"after":` + value.Draw(t, "after")
	}
	return []byte(list + "}" + s())
}

// An agent restart must not change the file again, and an uninstall must leave
// it as it was found, byte for byte.
func TestInsertRemoveProperties(t *testing.T) {
	entry := testEntry(t)
	rapid.Check(t, func(t *rapid.T) { checkProperties(t, anyList(t), entry) })
}

type fataler interface{ Fatalf(string, ...any) }

func checkProperties(t fataler, list, entry []byte) {
	once, err := insert(list, entry)
	if err != nil {
		t.Fatalf("insert into %q: %v", list, err)
	}
	if twice, err := insert(once, entry); err != nil || !bytes.Equal(once, twice) {
		t.Fatalf("second insert: %v\n%q\n%q", err, once, twice)
	}
	conf, err := libcni.NetworkConfFromBytes(once)
	if err != nil {
		t.Fatalf("%q is not valid any more: %v", once, err)
	}
	ours := conf.Plugins[len(conf.Plugins)-1].Network
	if ours.Type != plugin.Type || !ours.Capabilities[plugin.AnnotationsCapability] {
		t.Fatalf("last plugin of %q is %+v", once, ours)
	}
	if back, err := remove(once); err != nil || !bytes.Equal(back, list) {
		t.Fatalf("remove after insert: %v\n%q\nwant\n%q", err, back, list)
	}
}

// No file makes the agent panic, and what it accepts keeps its other plugins.
func FuzzInsert(f *testing.F) {
	f.Add([]byte(`{"name":"x","plugins":[{"type":"a"},{"type":"b"}]}`))
	f.Add([]byte("{\"plugins\":[" + e + ",\n{\"type\":\"a\"}]}"))
	f.Add([]byte(`{"plugins":[{"type":"a"}],"plugins":[{"TYPE":"traffic-cni"}, {"type":"b"}]}`))
	entry := testEntry(f)
	f.Fuzz(func(t *testing.T, list []byte) {
		without, err := remove(list)
		if err != nil {
			return
		}
		once, err := insert(list, entry)
		if err != nil {
			t.Fatalf("removed from, but not inserted into %q: %v", list, err)
		}
		if twice, err := insert(once, entry); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("second insert: %v\n%q\n%q", err, once, twice)
		}
		back, err := remove(once)
		if err != nil || !bytes.Equal(back, without) {
			t.Fatalf("remove after insert: %v\n%q\nwant\n%q", err, back, without)
		}
		if plugins, err := scan(once); err != nil || len(plugins) < 2 {
			t.Fatalf("%q has %d plugins: %v", once, len(plugins), err)
		}
	})
}
