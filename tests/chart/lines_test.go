package chart

import (
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var templateAction = regexp.MustCompile(`(?s)\{\{.*?\}\}`)

// everyLineIsIn complains about lines of templates that are nowhere in what was rendered: behind a condition that no story meets, where
// the API server never sees them. Of a line with an action it is the text before that.
func everyLineIsIn(t *testing.T, rendered []document) {
	t.Helper()
	lines := map[string][]string{} // by the template that they are from
	for _, document := range rendered {
		for line := range strings.Lines(document.text) {
			lines[document.source] = append(lines[document.source], strings.TrimSpace(line))
		}
	}
	for source := range lines {
		slices.Sort(lines[source])
		lines[source] = slices.Compact(lines[source])
	}
	lines[""] = slices.Concat(slices.Collect(maps.Values(lines))...)
	folder := filepath.Join(chartDir, "templates")
	err := filepath.WalkDir(folder, func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "NOTES.txt" {
			return err
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		source, has := filepath.ToSlash(strings.TrimPrefix(file, folder+string(filepath.Separator))), strings.HasPrefix
		if filepath.Ext(source) == ".tpl" {
			source, has = "", strings.Contains // what it defines is included anywhere
		}
		for line := range strings.Lines(templateAction.ReplaceAllString(string(text), "\x00")) {
			begin, _, _ := strings.Cut(strings.TrimSpace(line), "\x00")
			if begin != "" && begin != "---" && !slices.ContainsFunc(lines[source], func(line string) bool { return has(line, begin) }) {
				t.Errorf("%s: no story in testdata has the line %q", file, begin)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
