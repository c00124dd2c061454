package injected

import (
	"encoding/json"
	"testing"
)

// A Dump is what Envoy's /config_dump?include_eds answers.
type Dump []map[string]any

// ParseDump reads it.
func ParseDump(t testing.TB, text []byte) Dump {
	t.Helper()
	var dump struct{ Configs Dump }
	if err := json.Unmarshal(text, &dump); err != nil {
		t.Fatal(err)
	}
	return dump.Configs
}

// Find returns the resource of a name in one of the dump's lists, such as dynamic_listeners, at the path of fields from an
// entry of the list to the resource. It is the dump's own: a change of it stays.
func (d Dump) Find(t testing.TB, list, name string, at ...string) map[string]any {
	t.Helper()
	for _, config := range d {
		all, _ := config[list].([]any)
		for _, found := range all {
			for _, step := range at {
				found, _ = found.(map[string]any)[step]
			}
			if o, ok := found.(map[string]any); ok && (o["name"] == name || o["cluster_name"] == name) {
				delete(o, "@type") // which the field says
				return o
			}
		}
	}
	t.Fatalf("the dump has no %s %s", list, name)
	return nil
}
