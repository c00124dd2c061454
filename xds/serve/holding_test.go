package serve

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// TestHoldings compares with a map while thousands of names come and go: a name that was lost would be a resource that a proxy
// is never sent again.
func TestHoldings(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var hs holdings
	want := map[string]bool{}
	for i := range 20_000 {
		name := fmt.Sprint(random.IntN(3000))
		if put := random.IntN(5) > i/5000; put { // fewer and fewer
			hs.put(holding{record: nameOnly(clusters, name, nil)})
			want[name] = true
		} else {
			hs.remove(name)
			delete(want, name)
		}
		if (hs.get(name) != nil) != want[name] || hs.count != len(want) {
			t.Fatalf("step %d: %s is there: %v, want %v; %d holdings, want %d", i, name, hs.get(name) != nil, want[name], hs.count, len(want))
		}
	}
	var got []string
	for h := range hs.all() {
		got = append(got, h.record.Name)
	}
	if !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Errorf("%d names, or not in their order; want %d", len(got), len(want))
	}
	for name := range want {
		hs.remove(name)
	}
	if hs.count != 0 || len(hs.chunks) != 0 {
		t.Errorf("%d holdings in %d chunks are left", hs.count, len(hs.chunks))
	}
}
