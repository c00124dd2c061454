package label

import (
	"slices"
	"strings"
)

// CaseVariants returns every way to write a word of ASCII letters in upper and lower case, sorted. Kubernetes selectors
// compare exactly, so one that accepts a value in any case lists them all.
func CaseVariants(word string) []string {
	variants := []string{""}
	for _, letter := range word {
		lower, upper := strings.ToLower(string(letter)), strings.ToUpper(string(letter))
		longer := make([]string, 0, 2*len(variants))
		for _, v := range variants {
			longer = append(longer, v+lower)
			if upper != lower {
				longer = append(longer, v+upper)
			}
		}
		variants = longer
	}
	slices.Sort(variants)
	return variants
}
