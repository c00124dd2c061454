package serve

import (
	"fmt"
	"testing"
)

// A first sync marks every name of every stream: those maps are not kept, but those of edits are, or each would make one.
func TestLargeMapsAreNotKept(t *testing.T) {
	for names, kept := range map[int]bool{1: true, 8: true, 9: false, 1000: false} {
		sub := newSubscription(routes)
		var items []item
		for i := range names {
			name := fmt.Sprint(i)
			sub.mark(name, mark{})
			items = append(items, item{name: name})
		}
		sub.depart("1", items[:names/2])
		sub.depart("2", items[names/2:])
		if len(sub.dirty) != 0 || (sub.dirty != nil) != kept {
			t.Errorf("%d names: %d left, the map is kept: %v, want %v", names, len(sub.dirty), sub.dirty != nil, kept)
		}
	}
}
