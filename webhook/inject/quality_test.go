package inject

import (
	"slices"
	"strings"
	"testing"
)

// TestQualityOfService: a warning that comes without reason is not read any more, and one that is missing lets a database
// lose its CPUs silently.
func TestQualityOfService(t *testing.T) {
	const guaranteed = `{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1000m","memory":"1Gi"}}`
	equal := testConfig(t)
	equal.ProxyResources, equal.VerifyResources = resources("1", "256Mi", "1000m", "256Mi"), resources("100m", "64Mi", "100m", "64Mi")
	proxyOnly, noVerify := equal, equal
	proxyOnly.VerifyResources = testConfig(t).VerifyResources
	noVerify.VerifyResources, noVerify.Verify = testConfig(t).VerifyResources, false
	for name, test := range map[string]struct {
		config     Config
		containers []string // their resources
		whole      string   // the pod's own
		warned     bool
	}{
		"guaranteed":                          {testConfig(t), []string{guaranteed}, "", true},
		"limits only":                         {testConfig(t), []string{`{"limits":{"cpu":1,"memory":1e9}}`}, "", true},
		"burstable":                           {testConfig(t), []string{`{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"900m"}}`}, "", false},
		"one of two":                          {testConfig(t), []string{guaranteed, `{}`}, "", false},
		"no limit of memory":                  {testConfig(t), []string{`{"limits":{"cpu":"1"},"requests":{"cpu":"1","memory":"1Gi"}}`}, "", false},
		"best effort":                         {testConfig(t), []string{`{}`}, "", false},
		"the pod as a whole":                  {testConfig(t), []string{guaranteed}, guaranteed, false},
		"the sidecar keeps it":                {equal, []string{guaranteed}, "", false},
		"traffic-verify does not":             {proxyOnly, []string{guaranteed}, "", true},
		"traffic-verify does not, but is off": {noVerify, []string{guaranteed}, "", false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := `{"metadata":{"name":"web"},"spec":{"containers":[`
			for n, r := range test.containers {
				pod += strings.Repeat(",", min(n, 1)) + `{"name":"app","resources":` + r + `}`
			}
			pod += `]`
			if test.whole != "" {
				pod += `,"resources":` + test.whole
			}
			result, err := injectRaw(newInjector(t, test.config), []byte(pod+`}}`))
			if err != nil {
				t.Fatal(err)
			}
			if warned := slices.Contains(result.Warnings, notGuaranteed); warned != test.warned {
				t.Errorf("warned %t: %q", warned, result.Warnings)
			}
		})
	}
}
