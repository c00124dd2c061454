package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// An agent that starts again writes rules as the one before it did, because pods
// that run have those; after the node's next start there are none. Which it is, its
// log and its metric say.
func TestBackendOfThisBoot(t *testing.T) {
	for _, c := range []struct {
		name       string
		configured string
		recorded   plugin.Entry
		works      []string // in the order in which auto finds them
		want       plugin.Entry
	}{
		{"nothing recorded", apply.Auto, plugin.Entry{}, []string{"nftables"}, plugin.Entry{Backend: "nftables", Boot: bootID()}},
		{"of this boot", apply.Auto, plugin.Entry{Backend: "iptables-nft", Boot: bootID()}, []string{"nftables", "iptables-nft"}, plugin.Entry{Backend: "iptables-nft", Boot: bootID()}},
		{"of this boot, works no more", apply.Auto, plugin.Entry{Backend: "iptables-nft", Boot: bootID()}, []string{"nftables"}, plugin.Entry{Backend: "nftables", Boot: bootID()}},
		{"of another boot", apply.Auto, plugin.Entry{Backend: "iptables-nft", Boot: "before"}, []string{"nftables", "iptables-nft"}, plugin.Entry{Backend: "nftables", Boot: bootID()}},
		{"configured before", apply.Auto, plugin.Entry{Backend: "iptables-nft"}, []string{"nftables", "iptables-nft"}, plugin.Entry{Backend: "nftables", Boot: bootID()}},
		{"configured now", "nftables", plugin.Entry{Backend: "iptables-nft", Boot: bootID()}, []string{"nftables", "iptables-nft"}, plugin.Entry{Backend: "nftables"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			n := newNode(t)
			n.config.Backend = c.configured
			c.recorded.Type = plugin.Type
			entry, err := json.Marshal(c.recorded)
			if err != nil {
				t.Fatal(err)
			}
			list := []byte(bridge)
			if c.recorded.Backend != "" {
				if list, err = insert(list, entry); err != nil {
					t.Fatal(err)
				}
			}
			n.conflist("10-net.conflist", string(list))
			resolve := func(name string) (string, error) {
				switch {
				case name == apply.Auto:
					return c.works[0], nil
				case slices.Contains(c.works, name):
					return name, nil
				}
				return "", errors.New("does not work")
			}
			var log bytes.Buffer
			a := newAgent(n.config, n.client, slog.New(slog.NewJSONHandler(&log, nil)), n.kernel.in, resolve)
			if _, err := a.installer.pass(time.Now()); err != nil {
				t.Fatal(err)
			}
			got, err := chainedEntry(n.config.ConfDir)
			if err != nil || got.Backend != c.want.Backend || got.Boot != c.want.Boot {
				t.Errorf("entry %+v, %v, want %+v", got, err, c.want)
			}
			told := fmt.Sprintf(`"msg":"found how to write redirect rules","backend":%q,"configured":%q`, c.want.Backend, c.configured)
			if got := strings.Count(log.String(), told); got != 1 {
				t.Errorf("the log says %d times %s:\n%s", got, told, log.String())
			}
			if got := testutil.ToFloat64(a.installer.metrics.backend.WithLabelValues(c.want.Backend)); got != 1 {
				t.Errorf("the metric of %s is %v", c.want.Backend, got)
			}
		})
	}
}
