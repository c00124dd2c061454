package apply

import (
	"errors"
	"fmt"
	"sync"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// Mode is which interface of the kernel iptables writes to: they do not see each
// other's rules, and both act.
type Mode string

// The modes of iptables 1.8; what is older knows the legacy one alone.
const (
	ModeNFT    Mode = "nft"
	ModeLegacy Mode = "legacy"
)

// Iptables is the back end that runs the node's own iptables, version 1.6.2 or
// later: for kernels that have no nf_tables, or one that knows no NAT in the
// family inet.
//
// iptables looks at users of its own user namespace only, so it cannot serve a
// pod that has one of its own (hostUsers: false).
type Iptables struct {
	Mode Mode
	// Root is the node's file system; empty where it is this program's own.
	Root string
}

var _ Backend = Iptables{}

// LockVariable and LockFile are an environment that programs give to iptables in
// legacy mode, which locks a file, in all network namespaces the same one. With
// one of our own no pod waits for the node's rules, of which kube-proxy may have
// tens of thousands.
const (
	LockVariable = "XTABLES_LOCKFILE"
	LockFile     = "/run/xtables.traffic.lock"
)

// Name is "iptables-nft" or "iptables-legacy".
func (b Iptables) Name() string { return "iptables-" + string(b.Mode) }

// Apply writes each table of each family in one transaction. It first takes our
// chains to be missing, as they are in every new pod, and reads what there is if
// that fails.
func (b Iptables) Apply(netns ns.NetNS, s redirect.Spec) error {
	if err := sameUsers(netns); err != nil {
		return fmt.Errorf("%s: %w", b.Name(), err)
	}
	return b.each(netns, func(t tables) error { return t.apply(redirect.Rules(s)) })
}

// Check reads our chains, and those that lead to them, and compares them with
// the spec's rules.
func (b Iptables) Check(netns ns.NetNS, s redirect.Spec) error {
	return b.each(netns, func(t tables) error {
		live, err := t.read()
		if err != nil {
			return err
		}
		return live.check(t.family, redirect.Rules(s))
	})
}

// Probe has the kernel take all kinds of rules in chains that nothing leads to.
func (b Iptables) Probe(netns ns.NetNS) error {
	if err := sameUsers(netns); err != nil {
		return fmt.Errorf("probe %s: %w", b.Name(), err)
	}
	err := b.each(netns, func(t tables) error {
		err := t.write(t.probe(redirect.Rules(redirect.Spec{Version: redirect.Version, ProxyUID: 1, ProxyPort: 1})))
		if err != nil {
			return err
		}
		command, err := t.command()
		if err != nil {
			return err
		}
		for _, c := range chains {
			err = errors.Join(err, command.ClearAndDeleteChain(c.table, probePrefix+c.own))
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("probe %w", err)
	}
	return nil
}

// Remove deletes what leads to our chains, and them.
func (b Iptables) Remove(netns ns.NetNS) error {
	return b.each(netns, func(t tables) error {
		live, err := t.read()
		if err != nil || !live.hasOurs() {
			return err
		}
		return t.write(t.remove(live))
	})
}

// one calls do for the tables of a family, while nobody else of us does.
func (b Iptables) one(f family, netns ns.NetNS, do func(tables) error) error {
	program, err := b.find(f)
	if err != nil {
		return err
	}
	unlock, err := lock(f, netns)
	if err != nil {
		return err
	}
	defer unlock()
	return do(tables{f, b.Mode, program})
}

// each calls do for the tables of every family that the kernel speaks, at once,
// inside the network namespace.
func (b Iptables) each(netns ns.NetNS, do func(tables) error) error {
	var all sync.WaitGroup
	errs := make([]error, len(families))
	for i, f := range families {
		if !f.spoken() {
			continue
		}
		all.Go(func() {
			errs[i] = inside(netns, b.Root, func() error {
				if err := b.one(f, netns, do); err != nil {
					return fmt.Errorf("%s-%s: %w", f.program, b.Mode, err)
				}
				return nil
			})
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
