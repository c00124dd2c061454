package label

import (
	"slices"
	"strings"
)

// nearest returns the known key that an unknown one is likely to stand for: the one that has all its words, the shortest of
// several, as for a key from memory; or else the one that is closest by edit distance. It returns "" when none is close enough to
// be a slip of the pen (at most a third of the key).
func nearest(key string) string {
	if name := withWords(key); name != "" {
		return name
	}
	best, bestDistance := "", len(key)/3+1
	for _, entry := range Table {
		name := entry.nameLike(key)
		if d := distance(key, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
}

// withWords returns the first of the known keys with the fewest words that have all words of the key.
func withWords(key string) string {
	typed := words(key)
	best, fewest := "", 0
	for _, entry := range Table {
		name := entry.nameLike(key)
		known := words(name)
		lacks := func(word string) bool {
			return !slices.ContainsFunc(known, func(other string) bool { return sameWord(word, other) })
		}
		if (best == "" || len(known) < fewest) && len(typed) > 0 && !slices.ContainsFunc(typed, lacks) {
			best, fewest = name, len(known)
		}
	}
	return best
}

// words are those of a key after Prefix.
func words(key string) []string {
	return strings.FieldsFunc(strings.TrimPrefix(key, Prefix), func(r rune) bool { return r == '.' || r == '-' })
}

// sameWord reports whether two words are the same, or one is the other's beginning: request and requests, enable and enabled.
func sameWord(a, b string) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return a == b || len(a) > 2 && strings.HasPrefix(b, a)
}

// nameLike returns the entry's name; for a family, that of the port which ends the key, if one does.
func (k Key) nameLike(key string) string {
	prefix, family := strings.CutSuffix(k.Name, portPlaceholder)
	if !family {
		return k.Name
	}
	name := prefix + key[strings.LastIndexByte(key, '.')+1:]
	if _, _, err := k.Matches(name); err != nil {
		return k.Name
	}
	return name
}

// distance is the Levenshtein distance of two keys, in bytes.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
