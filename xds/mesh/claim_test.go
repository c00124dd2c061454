package mesh

import (
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// TestRedirectCheckIPs: the addresses that nobody gets are those that pods dial.
func TestRedirectCheckIPs(t *testing.T) {
	for i, want := range []string{redirect.VerifyIPv4, redirect.VerifyIPv6} {
		if got := redirectCheckIPs[i].String(); got != want {
			t.Errorf("%s is kept free, pods dial %s", got, want)
		}
	}
}
