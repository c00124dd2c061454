package apply

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"reflect"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/nftables"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// tableName is our table, in the family inet, which is IPv4 and IPv6 at once.
const tableName = "traffic-envoy"

// socketBuffer in bytes holds the batch of the longest spec, and the kernel's
// answer to each of its messages.
const socketBuffer = 4 << 20

// Nftables is the back end that talks to the kernel's nf_tables by netlink: it
// needs no program on the node. Kernel 5.2 or later (NAT in the family inet).
type Nftables struct{}

var _ Backend = Nftables{}

// Name is "nftables".
func (Nftables) Name() string { return "nftables" }

// Apply replaces our table in one transaction: others see the old rules or the
// new ones, and a program that dies in between leaves the old ones. Rules that
// are right already are left alone.
//
// A namespace without our table, which is every new pod's, is spared the
// removal: the kernel makes us wait for an RCU grace period, some 10 ms, when
// something was removed.
func (Nftables) Apply(netns ns.NetNS, s redirect.Spec) error {
	return withConn(netns, func(c *nftables.Conn) error {
		p := redirect.Rules(s)
		err := write(c, p)
		if errors.Is(err, os.ErrExist) { // somebody else has added the table since
			err = write(c, p)
		}
		if err != nil {
			return fmt.Errorf("write nftables rules: %w", err)
		}
		if err := check(c, p); err != nil {
			return fmt.Errorf("read back nftables rules: %w", err)
		}
		return nil
	})
}

func write(c *nftables.Conn, p redirect.Program) error {
	t, err := liveTable(c)
	switch {
	case err != nil:
		return err
	case t == nil:
		addRules(c, c.CreateTable(table()), p)
	case check(c, p) == nil:
		return nil
	default:
		deleteTable(c)
		addRules(c, c.AddTable(table()), p)
	}
	return c.Flush()
}

// Probe has the kernel run a transaction that ends as it began. Modules that the
// rules need are loaded by it.
func (Nftables) Probe(netns ns.NetNS) error {
	return withConn(netns, func(c *nftables.Conn) error {
		t := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: tableName + "-probe"})
		addRules(c, t, redirect.Rules(redirect.Spec{Version: redirect.Version, ProxyUID: 1, ProxyPort: 1}))
		c.DelTable(t)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("probe nftables: %w", err)
		}
		return nil
	})
}

// Check reads our table and compares it with the spec's rules.
func (Nftables) Check(netns ns.NetNS, s redirect.Spec) error {
	return withConn(netns, func(c *nftables.Conn) error {
		return check(c, redirect.Rules(s))
	})
}

// Remove deletes our table.
func (Nftables) Remove(netns ns.NetNS) error {
	return withConn(netns, func(c *nftables.Conn) error {
		deleteTable(c)
		if err := c.Flush(); err != nil {
			return fmt.Errorf("remove nftables rules: %w", err)
		}
		return nil
	})
}

func withConn(netns ns.NetNS, do func(*nftables.Conn) error) (err error) {
	c, err := nftables.New(
		nftables.WithNetNSFd(int(netns.Fd())),
		nftables.AsLasting(),
		nftables.WithSockOptions(func(c *netlink.Conn) error {
			return errors.Join(c.SetReadBuffer(socketBuffer), c.SetWriteBuffer(socketBuffer))
		}),
	)
	if err != nil {
		return fmt.Errorf("open nftables: %w", err)
	}
	defer func() { err = errors.Join(err, c.CloseLasting()) }()
	return do(c)
}

func table() *nftables.Table {
	return &nftables.Table{Family: nftables.TableFamilyINet, Name: tableName}
}

// deleteTable adds before it deletes: deleting what is not there fails, adding
// what is there does not.
func deleteTable(c *nftables.Conn) {
	c.DelTable(c.AddTable(table()))
}

func addRules(c *nftables.Conn, t *nftables.Table, p redirect.Program) {
	chains := map[redirect.Chain]*nftables.Chain{}
	for _, chain := range baseChains(t) {
		chains[redirect.Chain(chain.Name)] = c.AddChain(chain)
	}
	for _, r := range p {
		c.AddRule(&nftables.Rule{Table: t, Chain: chains[r.Chain], Exprs: expressions(r), UserData: comment(r)})
	}
}

// baseChains hooks our two chains into the kernel. Of two NAT chains the first
// that redirects a connection decides: ours comes before those with the usual
// priority, so that rules that a pod happens to have do not lead around the proxy.
// Who may write rules and means to can come before it.
func baseChains(t *nftables.Table) []*nftables.Chain {
	accept := nftables.ChainPolicyAccept
	return []*nftables.Chain{{
		Name: string(redirect.Output), Table: t, Type: nftables.ChainTypeNAT, Policy: &accept,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest - 1),
	}, {
		Name: string(redirect.Input), Table: t, Type: nftables.ChainTypeFilter, Policy: &accept,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter,
	}}
}

func comment(r redirect.Rule) []byte {
	return userdata.AppendString(nil, userdata.TypeComment, r.Comment)
}

// liveTable is our table as the kernel has it, nil if it has none.
func liveTable(c *nftables.Conn) (*nftables.Table, error) {
	t, err := c.ListTableOfFamily(tableName, nftables.TableFamilyINet)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read nftables table: %w", err)
	}
	return t, nil
}

func check(c *nftables.Conn, p redirect.Program) error {
	t, err := liveTable(c)
	switch {
	case err != nil:
		return err
	case t == nil:
		return fmt.Errorf("%w: there is no table inet %s", ErrDiffers, tableName)
	case t.Flags != 0:
		return fmt.Errorf("%w: table inet %s has flags %#x, it may be dormant", ErrDiffers, tableName, t.Flags)
	}
	if err := checkChains(c); err != nil {
		return err
	}
	for _, chain := range baseChains(t) {
		if err := checkRules(c, chain, p); err != nil {
			return err
		}
	}
	return nil
}

func checkChains(c *nftables.Conn) error {
	all, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
	if err != nil {
		return fmt.Errorf("read nftables chains: %w", err)
	}
	live := map[string]*nftables.Chain{}
	for _, chain := range all {
		if chain.Table.Name == tableName {
			live[chain.Name] = chain
		}
	}
	want := baseChains(table())
	if len(live) != len(want) {
		return fmt.Errorf("%w: %d chains instead of %d", ErrDiffers, len(live), len(want))
	}
	for _, chain := range want {
		got, ok := live[chain.Name]
		if !ok || !reflect.DeepEqual(
			[]any{got.Type, got.Hooknum, got.Priority, got.Policy},
			[]any{chain.Type, chain.Hooknum, chain.Priority, chain.Policy}) {
			return fmt.Errorf("%w: chain %s is missing or hooked elsewhere", ErrDiffers, chain.Name)
		}
	}
	return nil
}

func checkRules(c *nftables.Conn, chain *nftables.Chain, p redirect.Program) error {
	live, err := c.GetRules(chain.Table, chain)
	if err != nil {
		return fmt.Errorf("read nftables rules of chain %s: %w", chain.Name, err)
	}
	n := 0
	for _, want := range p {
		if want.Chain != redirect.Chain(chain.Name) {
			continue
		}
		if n == len(live) || !bytes.Equal(live[n].UserData, comment(want)) || !reflect.DeepEqual(live[n].Exprs, expressions(want)) {
			return fmt.Errorf("%w: rule %d of chain %s is not: %s", ErrDiffers, n+1, chain.Name, want)
		}
		n++
	}
	if n != len(live) {
		return fmt.Errorf("%w: chain %s has %d rules instead of %d", ErrDiffers, chain.Name, len(live), n)
	}
	return nil
}
