package serve

import (
	"cmp"
	"iter"
	"slices"
	"strings"
)

// A holding is what the proxy has under a name, or asked for.
type holding struct {
	// record has the name. It is what the proxy has if has is set.
	record     *record
	named, has bool
}

// have is what the proxy has, or nil; nil for a holding that is not there.
func (h *holding) have() *record {
	if h == nil || !h.has {
		return nil
	}
	return h.record
}

// isNamed reports whether the proxy asked for the name.
func (h *holding) isNamed() bool { return h != nil && h.named }

// nameOnly is a record for a name: the one that all streams share, if there is one.
func nameOnly(typeURL, name string, published *record) *record {
	if published != nil {
		return published
	}
	r := &record{}
	r.Type, r.Name = typeURL, strings.Clone(name)
	return r
}

// holdings are sorted by name, in chunks: each stream has one of everything that is published, and a map takes three times
// the memory. In one list, an edit would cost more the more is published.
type holdings struct {
	chunks [][]holding // none is empty
	count  int
}

// mostInChunk is how many holdings a chunk has before it becomes two.
const mostInChunk = 128

// place returns the chunk that a name is in, or would be, and where in it.
func (hs *holdings) place(name string) (chunk, at int, found bool) {
	chunk, found = slices.BinarySearchFunc(hs.chunks, name, func(c []holding, name string) int { return cmp.Compare(c[0].record.Name, name) })
	if found {
		return chunk, 0, true
	}
	if chunk = max(0, chunk-1); chunk < len(hs.chunks) {
		at, found = slices.BinarySearchFunc(hs.chunks[chunk], name, func(h holding, name string) int { return cmp.Compare(h.record.Name, name) })
	}
	return chunk, at, found
}

// get returns nil for a name that is not there. What it returns is to be used before the next put or remove.
func (hs *holdings) get(name string) *holding {
	chunk, at, found := hs.place(name)
	if !found {
		return nil
	}
	return &hs.chunks[chunk][at]
}

// put adds a holding, unless there is one of its name.
func (hs *holdings) put(h holding) {
	chunk, at, found := hs.place(h.record.Name)
	if found {
		return
	}
	hs.count++
	if len(hs.chunks) == 0 {
		hs.chunks = [][]holding{{h}}
		return
	}
	c := slices.Insert(hs.chunks[chunk], at, h)
	hs.chunks[chunk] = c
	if len(c) > mostInChunk {
		// Names mostly come in order, so that the first part stays full.
		rest := slices.Clone(c[mostInChunk*3/4:])
		hs.chunks[chunk] = slices.Clone(c[:mostInChunk*3/4])
		hs.chunks = slices.Insert(hs.chunks, chunk+1, rest)
	}
}

// remove takes a name out.
func (hs *holdings) remove(name string) {
	chunk, at, found := hs.place(name)
	if !found {
		return
	}
	hs.count--
	hs.chunks[chunk] = slices.Delete(hs.chunks[chunk], at, at+1)
	if len(hs.chunks[chunk]) == 0 {
		hs.chunks = slices.Delete(hs.chunks, chunk, chunk+1)
	}
}

// all yields the holdings in the order of their names.
func (hs *holdings) all() iter.Seq[*holding] {
	return func(yield func(*holding) bool) {
		for _, c := range hs.chunks {
			for i := range c {
				if !yield(&c[i]) {
					return
				}
			}
		}
	}
}
