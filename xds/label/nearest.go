package label

import "strings"

// nearest returns the known key that is closest to an unknown one by edit distance, or "" when none is close enough to
// be a likely slip of the pen (at most a third of the key).
func nearest(key string) string {
	best, bestDistance := "", len(key)/3+1
	for _, entry := range Table {
		name := entry.nameLike(key)
		if d := distance(key, name); d < bestDistance {
			best, bestDistance = name, d
		}
	}
	return best
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
