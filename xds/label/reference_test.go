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
	for page, want := range map[string][]byte{"LABELS.md": Reference(), "INGRESS.md": IngressReference()} {
		page = "../../charts/kubernetes-traffic-manager/" + page
		if *update {
			if err := os.WriteFile(page, want, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is stale: run go test ./xds/label -update", page)
		}
	}
}
