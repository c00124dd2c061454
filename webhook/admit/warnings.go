package admit

import "fmt"

// The API server cuts warnings that are longer, and drops them when there are many.
const (
	maxWarnings      = 8
	maxWarningLength = 250
)

// bounded makes warnings about an object fit to be shown.
func bounded(object string, texts []string) []string {
	var warnings []string
	for n, text := range texts {
		if n == maxWarnings-1 && len(texts) > maxWarnings {
			return append(warnings, fmt.Sprintf("%s: and %d more", object, len(texts)-n))
		}
		warning := object + ": " + text
		if len(warning) > maxWarningLength {
			warning = warning[:maxWarningLength-3] + "..."
		}
		warnings = append(warnings, warning)
	}
	return warnings
}
