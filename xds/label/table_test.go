package label

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// examples are the keys and examples of all entries that mean something on a kind.
func examples(kind Kind) map[string]string {
	labels := map[string]string{}
	for n, entry := range Table {
		if entry.AppliesTo(kind) {
			labels[entry.key(uint16(8080+n))] = entry.Example
		}
	}
	return labels
}

// key is the entry's key; of a family, that of the port.
func (k Key) key(port uint16) string {
	return strings.Replace(k.Name, portPlaceholder, strconv.Itoa(int(port)), 1)
}

// TestTable holds each entry to what users read of it: the examples work together on every kind that they name, and a
// value that is none leaves the default in force and every other key as it is.
func TestTable(t *testing.T) {
	for _, kind := range []Kind{Namespace, Deployment, StatefulSet, DaemonSet, Job, CronJob, Service, Pod} {
		labels := examples(kind)
		all, problems := Parse(kind, labels)
		if len(problems) != 0 {
			t.Errorf("the examples on a %s: %v", kind, problems)
		}
		for n, entry := range Table {
			key := entry.key(uint16(8080 + n))
			if labels[key] == "" {
				continue
			}
			const bad = "not a value"
			without, with := maps.Clone(labels), maps.Clone(labels)
			delete(without, key)
			with[key] = bad
			absent, _ := Parse(kind, without)
			wrong, problems := Parse(kind, with)
			if cmp.Equal(absent, all) {
				t.Errorf("%s=%s sets nothing on a %s", key, entry.Example, kind)
			}
			if diff := cmp.Diff(absent, wrong); diff != "" {
				t.Errorf("%s=%s on a %s (-without +with):\n%s", key, bad, kind, diff)
			}
			told := func(p Problem) bool {
				return p.Key == key && p.Value == bad && p.Reason == "expected "+entry.Expected && p.InForce != ""
			}
			if !slices.ContainsFunc(problems, told) {
				t.Errorf("%s=%s on a %s: %v", key, bad, kind, problems)
			}
		}
	}
}

// TestEntries: the reference page has something to say of each.
func TestEntries(t *testing.T) {
	seen := map[string]bool{}
	for _, entry := range Table {
		if seen[entry.Name] {
			t.Errorf("%s is listed twice", entry.Name)
		}
		seen[entry.Name] = true
		if !strings.HasPrefix(entry.Name, Prefix) || len(entry.On) == 0 || entry.Expected == "" || entry.Default == "" || entry.Meaning == "" || entry.Example == "" {
			t.Errorf("incomplete entry: %+v", entry)
		}
	}
}
