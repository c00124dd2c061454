package label

import (
	"bytes"
	"flag"
	"os"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the reference page")

// TestReference: what the chart ships says what the parser does.
func TestReference(t *testing.T) {
	const page = "../../charts/kubernetes-traffic-manager/LABELS.md"
	if *update {
		if err := os.WriteFile(page, Reference(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, Reference()) {
		t.Errorf("%s is stale: run go test ./xds/label -update", page)
	}
}
