package e2e

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts types what users type, and checks what they must see.
func TestScripts(t *testing.T) {
	config, err := Config("../..")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, config.Params(scripts(t, "../../samples/*/*.txtar", "testdata/*.txtar")...))
}

var slow = flag.Bool("slow", false, "also restart the node's own parts, renew the authority, and wait ten minutes for a token to end")

// TestOutages takes parts of the product away, which whoever uses the cluster meanwhile would feel: one script at a time.
func TestOutages(t *testing.T) {
	config, err := Config("../..")
	if err != nil {
		t.Fatal(err)
	}
	patterns := []string{"testdata/outages/*.txtar"}
	if *slow {
		patterns = append(patterns, "testdata/outages/slow/*.txtar")
	}
	for _, file := range scripts(t, patterns...) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			testscript.Run(t, config.Params(file))
		})
	}
}

func scripts(t *testing.T, patterns ...string) []string {
	t.Helper()
	var files []string
	for _, pattern := range patterns {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Fatalf("no script matches %s", pattern)
		}
		files = append(files, found...)
	}
	return files
}
