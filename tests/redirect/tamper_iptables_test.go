package redirect_test

import (
	"strings"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// tamperingByIptables is what can happen to rules that iptables wrote; IPTABLES
// stands for the program.
var tamperingByIptables = map[string]string{
	"everything flushed":    "IPTABLES -t nat -F && IPTABLES -F",
	"everything deleted":    "IPTABLES -t nat -F && IPTABLES -t nat -X && IPTABLES -F && IPTABLES -X",
	"our chain emptied":     "IPTABLES -t nat -F TRAFFIC_ENVOY_OUTPUT",
	"last redirect deleted": "IPTABLES -t nat -D TRAFFIC_ENVOY_OUTPUT -p tcp -j REDIRECT --to-ports 10000 -m comment --comment 'every other outbound connection goes to the proxy'",
	"jump deleted":          "IPTABLES -t nat -D OUTPUT -j TRAFFIC_ENVOY_OUTPUT",
	"jump for some only":    "IPTABLES -t nat -D OUTPUT 1 && IPTABLES -t nat -A OUTPUT -p tcp -m comment --comment \"it's less\" -j TRAFFIC_ENVOY_OUTPUT",
	"jump twice":            "IPTABLES -t nat -A OUTPUT -j TRAFFIC_ENVOY_OUTPUT",
	"port opened":           "IPTABLES -I INPUT -p tcp --dport 10000 -j ACCEPT",
	"rule put first":        "IPTABLES -t nat -I TRAFFIC_ENVOY_OUTPUT -j ACCEPT",
	"rule put last":         "IPTABLES -A TRAFFIC_ENVOY_INPUT -j ACCEPT",
	"rule changed":          "IPTABLES -t nat -R TRAFFIC_ENVOY_OUTPUT 2 -m owner --uid-owner 1000 -j RETURN",
}

// CHECK sees in either family and mode what somebody did to the rules, and the
// next ADD mends it.
func TestTamperingByIptables(t *testing.T) {
	for program, backend := range map[string]string{"iptables-nft": "iptables-nft", "ip6tables-legacy": "iptables-legacy"} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			w := &world{TB: t, pod: newNamespace(t)}
			r := newRuntime(t, "1.1.0", path(w.pod), encode(t, plain), plugin.NewEntry(backend, false))
			r.mustAdd(t)
			for name, command := range tamperingByIptables {
				t.Log(name)
				w.shell(w.pod, strings.ReplaceAll(command, "IPTABLES", program))
				expectRepairByAdd(t, r)
			}
		})
	}
}
