package inject

import (
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// TestGatewayFiles: the chart cannot call this package, so it holds what this package makes.
func TestGatewayFiles(t *testing.T) {
	files, err := GatewayFiles()
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		golden(t, filepath.Join("../../charts/kubernetes-traffic-manager/files", name), []byte(text))
	}
}

// TestGatewayVariables: what the chart does not define would stay in the gateway's configuration as it is written.
func TestGatewayVariables(t *testing.T) {
	files, err := GatewayFiles()
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, match := range regexp.MustCompile(`\$\(([A-Z_]*)\)|\$`).FindAllStringSubmatch(files["ingress-bootstrap.json"], -1) {
		found = append(found, match[1])
	}
	slices.Sort(found)
	want := []string{"CONTROL_FAMILY", "CONTROL_HOST", "CONTROL_PORT", "MEMORY_LIMIT", "POD_IP", "STATS_PORT"}
	if got := slices.Compact(found); !slices.Equal(got, want) {
		t.Errorf("the kubelet would expand %q, want %q", got, want)
	}
}
