package redirect_test

import (
	"encoding/binary"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// tampering is what can happen to rules after ADD. Each must be noticed by CHECK,
// which the agent's repair relies on, and put right by the next ADD.
var tampering = map[string]func(*nftables.Conn, map[string][]*nftables.Rule) error{
	"table deleted": func(c *nftables.Conn, _ map[string][]*nftables.Rule) error {
		c.DelTable(ourTable())
		return nil
	},
	"all rules flushed": func(c *nftables.Conn, _ map[string][]*nftables.Rule) error {
		c.FlushRuleset()
		return nil
	},
	"one chain emptied": func(c *nftables.Conn, _ map[string][]*nftables.Rule) error {
		c.FlushChain(&nftables.Chain{Table: ourTable(), Name: "output"})
		return nil
	},
	"last redirect deleted": func(c *nftables.Conn, rules map[string][]*nftables.Rule) error {
		return c.DelRule(rules["output"][len(rules["output"])-1])
	},
	"input rule deleted": func(c *nftables.Conn, rules map[string][]*nftables.Rule) error {
		return c.DelRule(rules["input"][0])
	},
	"rule put first": func(c *nftables.Conn, _ map[string][]*nftables.Rule) error {
		c.InsertRule(&nftables.Rule{Table: ourTable(), Chain: &nftables.Chain{Name: "output"}, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
		return nil
	},
	"rule put last": func(c *nftables.Conn, _ map[string][]*nftables.Rule) error {
		c.AddRule(&nftables.Rule{Table: ourTable(), Chain: &nftables.Chain{Name: "input"}, Exprs: []expr.Any{&expr.Verdict{Kind: expr.VerdictAccept}}})
		return nil
	},
	"rule changed": func(c *nftables.Conn, rules map[string][]*nftables.Rule) error {
		r := rules["output"][1]
		r.Table, r.Chain = ourTable(), &nftables.Chain{Name: "output"}
		r.Exprs[1].(*expr.Cmp).Data[0]++ // another uid is left alone
		c.AddRule(r)
		return nil
	},
	"chain added": func(c *nftables.Conn, _ map[string][]*nftables.Rule) error {
		c.AddChain(&nftables.Chain{Table: ourTable(), Name: "output2", Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(-150)})
		return nil
	},
}

func TestTampering(t *testing.T) {
	for name, tamper := range tampering {
		t.Run(name, func(t *testing.T) {
			netns := newNamespace(t)
			r := newRuntime(t, "1.1.0", path(netns), encode(t, plain), plugin.NewEntry(apply.Auto, false))
			r.mustAdd(t)
			if err := r.check(); err != nil {
				t.Fatalf("CHECK after ADD: %v", err)
			}
			c := conn(t, netns)
			rules := map[string][]*nftables.Rule{}
			for _, chain := range []string{"output", "input"} {
				var err error
				if rules[chain], err = c.GetRules(ourTable(), &nftables.Chain{Name: chain}); err != nil {
					t.Fatal(err)
				}
			}
			if err := tamper(c, rules); err != nil {
				t.Fatal(err)
			}
			if err := c.Flush(); err != nil {
				t.Fatal(err)
			}
			expectRepairByAdd(t, r)
		})
	}
}

// A dormant table shows all its rules and uses none of them.
func TestDormantTable(t *testing.T) {
	netns := newNamespace(t)
	r := newRuntime(t, "1.1.0", path(netns), encode(t, plain), plugin.NewEntry(apply.Auto, false))
	r.mustAdd(t)
	makeDormant(t, netns)
	expectRepairByAdd(t, r)
}

// makeDormant sets a flag that the library cannot set.
func makeDormant(t *testing.T, netns ns.NetNS) {
	t.Helper()
	const dormant = 1 // NFT_TABLE_F_DORMANT
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: int(netns.Fd())})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	e := netlink.NewAttributeEncoder()
	e.ByteOrder = binary.BigEndian
	e.String(unix.NFTA_TABLE_NAME, ourTable().Name)
	e.Uint32(unix.NFTA_TABLE_FLAGS, dormant)
	attributes, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	batch := []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES}
	newTable := unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWTABLE
	if _, err := c.SendMessages([]netlink.Message{
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_BEGIN, Flags: netlink.Request}, Data: batch},
		{
			Header: netlink.Header{Type: netlink.HeaderType(newTable), Flags: netlink.Request | netlink.Acknowledge},
			Data:   append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, attributes...),
		},
		{Header: netlink.Header{Type: unix.NFNL_MSG_BATCH_END, Flags: netlink.Request}, Data: batch},
	}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Receive(); err != nil {
		t.Fatal(err)
	}
}

// expectRepairByAdd sees CHECK fail, and succeed after the next ADD.
func expectRepairByAdd(t *testing.T, r runtime) {
	t.Helper()
	if err := r.check(); err == nil || !strings.Contains(err.Error(), "pod shop/web-0 is not redirected as its annotation says") {
		t.Errorf("CHECK after tampering: %v", err)
	}
	r.mustAdd(t)
	if err := r.check(); err != nil {
		t.Errorf("CHECK after the next ADD: %v", err)
	}
}
