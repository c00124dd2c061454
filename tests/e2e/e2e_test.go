package e2e

import (
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts types what users type, and checks what they must see.
func TestScripts(t *testing.T) {
	config, err := Config("../..")
	if err != nil {
		t.Fatal(err)
	}
	var files []string
	for _, pattern := range []string{"../../samples/*/*.txtar", "testdata/*.txtar"} {
		found, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) == 0 {
			t.Fatalf("no script matches %s", pattern)
		}
		files = append(files, found...)
	}
	testscript.Run(t, config.Params(files...))
}
