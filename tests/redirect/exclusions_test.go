package redirect_test

import (
	"crypto/x509"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// What the matrix tries with packets, in each back end and family, is what the
// webhook makes of the chart's values and of a pod's annotations.
func TestExclusionsAreThoseOfTheMatrix(t *testing.T) {
	config := injected.Config(15000, &x509.Certificate{})
	for _, value := range []string{"10.76.0.0/15", "fd78::5/128"} {
		config.ExcludeCIDRs = append(config.ExcludeCIDRs, netip.MustParsePrefix(value))
	}
	config.ExcludePorts = []redirect.PortRange{{From: 3306, To: 3306}}
	pod := injected.Annotated(t, "shop", "web-0", config, map[string]string{
		inject.ExcludeCIDRsAnnotation: "10.78.0.5, fd76::/15",
		inject.ExcludePortsAnnotation: "8000-8010",
	})
	got, err := redirect.Decode(pod.Annotations[redirect.Annotation])
	if err != nil {
		t.Fatal(err)
	}
	want := excluding
	want.ExcludeCIDRs = slices.SortedFunc(slices.Values(want.ExcludeCIDRs), comparePrefixes)
	slices.SortFunc(got.ExcludeCIDRs, comparePrefixes)
	if !reflect.DeepEqual(got, want) {
		t.Errorf("spec %+v, want %+v", got, want)
	}
}

func comparePrefixes(a, b netip.Prefix) int { return a.Compare(b) }
