package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeTellsTheDemo holds the README to the script that is known to work: each label that the demo sets is there.
func TestReadmeTellsTheDemo(t *testing.T) {
	script, err := os.ReadFile("../../samples/bookinfo/demo.txtar")
	if err != nil {
		t.Fatal(err)
	}
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	labels := 0
	for line := range strings.Lines(string(script)) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "$ kubectl label ")
		if !ok {
			continue
		}
		labels++
		if !strings.Contains(string(readme), "kubectl label "+command) {
			t.Errorf("README.md does not show the demo's command: kubectl label %s", command)
		}
	}
	if labels == 0 {
		t.Fatal("the demo sets no label")
	}
}
