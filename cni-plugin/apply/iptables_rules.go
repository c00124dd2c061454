package apply

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// chain is one of ours, and the kernel's that leads to it.
type chain struct {
	of               redirect.Chain
	table, base, own string
}

// chains in the order in which they are written: the proxy's port is closed
// before connections go there.
var chains = []chain{
	{redirect.Input, "filter", "INPUT", "TRAFFIC_ENVOY_INPUT"},
	{redirect.Output, "nat", "OUTPUT", "TRAFFIC_ENVOY_OUTPUT"},
}

// probePrefix begins the names of our chains while we try whether they work.
const probePrefix = "PROBE_" // 28 bytes are possible

// jump is the rule that leads to our chain.
func (c chain) jump() string { return "-j " + c.own }

// create is the text that makes our chains. It fails as a whole in a table that
// has one already.
func (t tables) create(p redirect.Program) string {
	return t.text(func(c chain) []string {
		lines := []string{"-N " + c.own, "-I " + c.base + " 1 " + c.jump()}
		return append(lines, t.family.rules(c, c.own, p)...)
	})
}

// replace is the text that makes our chains what they should be, whatever there
// is of them.
func (t tables) replace(live rules, p redirect.Program) string {
	return t.text(func(c chain) []string {
		lines := []string{":" + c.own + " - [0:0]"} // made, or emptied
		lines = append(lines, live.deleteJumps(c)...)
		lines = append(lines, "-I "+c.base+" 1 "+c.jump())
		return append(lines, t.family.rules(c, c.own, p)...)
	})
}

// remove is the text that takes out what there is of our chains. One to which rules
// of others lead cannot go; empty it does nothing.
func (t tables) remove(live rules) string {
	return t.text(func(c chain) []string {
		lines := live.deleteJumps(c)
		if _, ok := live[c.table][c.own]; ok {
			lines = append(lines, "-F "+c.own)
			if !live.othersLeadTo(c) {
				lines = append(lines, "-X "+c.own)
			}
		}
		return lines
	})
}

// probe is the text of all rules in chains that no packet comes to.
func (t tables) probe(p redirect.Program) string {
	return t.text(func(c chain) []string {
		own := probePrefix + c.own
		return append([]string{":" + own + " - [0:0]"}, t.family.rules(c, own, p)...)
	})
}

func (t tables) text(linesOf func(chain) []string) string {
	var b strings.Builder
	for _, c := range chains {
		fmt.Fprintf(&b, "*%s\n%s\nCOMMIT\n", c.table, strings.Join(linesOf(c), "\n"))
	}
	return b.String()
}

// rules of a family in one chain, called own, as iptables-save prints them.
func (f family) rules(c chain, own string, p redirect.Program) []string {
	var lines []string
	for _, r := range p {
		if r.Chain == c.of && (!r.Dst.IsValid() || r.Dst.Addr().BitLen() == f.bits) {
			lines = append(lines, "-A "+own+" "+arguments(r))
		}
	}
	return lines
}

// arguments translates a rule, in the order in which iptables-save prints them.
func arguments(r redirect.Rule) string {
	var words []string
	if r.Dst.IsValid() && r.Dst.Bits() > 0 {
		words = append(words, "-d", r.Dst.String())
	}
	option := "-o"
	if r.Chain == redirect.Input {
		option = "-i"
	}
	switch r.Interface {
	case redirect.AnyInterface:
	case redirect.Loopback:
		words = append(words, option, "lo")
	case redirect.NotLoopback:
		words = append(words, "!", option, "lo")
	}
	if r.TCP {
		words = append(words, "-p", "tcp")
	}
	if r.Ports != (redirect.PortRange{}) {
		words = append(words, "-m", "tcp", "--dport", strings.Replace(r.Ports.String(), "-", ":", 1))
	}
	if r.UID != 0 {
		words = append(words, "-m", "owner", "--uid-owner", fmt.Sprint(r.UID))
	}
	words = append(words, "-m", "comment", "--comment", `"`+r.Comment+`"`, "-j")
	switch r.Action {
	case redirect.Redirect:
		words = append(words, "REDIRECT", "--to-ports", fmt.Sprint(r.To))
	case redirect.Reject:
		words = append(words, "REJECT", "--reject-with", "tcp-reset")
	default:
		words = append(words, "RETURN")
	}
	return strings.Join(words, " ")
}

// rules are those of a network namespace as iptables-save prints them: by table
// and chain, each without the chain's name.
type rules map[string]map[string][]string

// commentOption is what rules are compared without: versions quote it differently.
var commentOption = regexp.MustCompile(`-m comment --comment (?:"(?:[^"\\]|\\.)*"|\S+) `)

// parseRules reads what iptables-save printed. A table of ours that it cannot read
// is an error: it stands there as a remark. What is printed can be anything that the
// pod wants to be read: comments and names are printed with their line ends.
func parseRules(saved string) (rules, error) {
	live := rules{}
	table := map[string][]string{} // nobody's, before the first
	for line := range strings.Lines(saved) {
		line = strings.TrimSpace(line)
		switch {
		case slices.ContainsFunc(chains, func(c chain) bool { return strings.HasPrefix(line, "# Table `"+c.table+"' is incompatible") }):
			return nil, fmt.Errorf("%s: another program wrote rules there that iptables cannot read; use the back end nftables", strings.Trim(line, "# "))
		case strings.HasPrefix(line, "*"):
			table = map[string][]string{}
			live[line[1:]] = table
		case strings.HasPrefix(line, ":"):
			name, _, _ := strings.Cut(line[1:], " ")
			table[name] = []string{}
		case strings.HasPrefix(line, "-A "):
			name, rule, _ := strings.Cut(line[len("-A "):], " ")
			table[name] = append(table[name], rule)
		}
	}
	return live, nil
}

// jumps counts our jumps: the rules that lead from the kernel's chain to ours, and
// do nothing else.
func (r rules) jumps(c chain) int {
	n := 0
	for _, rule := range r[c.table][c.base] {
		if rule == c.jump() {
			n++
		}
	}
	return n
}

// deleteJumps is made of our own words alone: what a pod has written into a rule must
// not become arguments of a program that runs as root.
func (r rules) deleteJumps(c chain) []string {
	return slices.Repeat([]string{"-D " + c.base + " " + c.jump()}, r.jumps(c))
}

// othersLeadTo reports rules that lead to our chain and are not our jump.
func (r rules) othersLeadTo(c chain) bool {
	for name, rules := range r[c.table] {
		for _, rule := range rules {
			isJump := name == c.base && rule == c.jump()
			if leads := strings.HasSuffix(" "+rule, " -j "+c.own) || strings.HasSuffix(" "+rule, " -g "+c.own); leads && !isJump {
				return true
			}
		}
	}
	return false
}

func (r rules) hasOurs() bool {
	return slices.ContainsFunc(chains, func(c chain) bool {
		_, ok := r[c.table][c.own]
		return ok || r.jumps(c) > 0
	})
}

// check compares the rules of a family with what they should be.
func (r rules) check(f family, p redirect.Program) error {
	for _, c := range chains {
		base := r[c.table][c.base]
		if len(base) == 0 || base[0] != c.jump() || r.jumps(c) != 1 {
			return fmt.Errorf("%w: chain %s of table %s does not begin with its one jump to %s", ErrDiffers, c.base, c.table, c.own)
		}
		live := r[c.table][c.own]
		want := f.rules(c, c.own, p)
		for i, line := range want {
			rule := commentOption.ReplaceAllString(strings.TrimPrefix(line, "-A "+c.own+" "), "")
			if i == len(live) || commentOption.ReplaceAllString(live[i], "") != rule {
				return fmt.Errorf("%w: rule %d of chain %s is not: %s", ErrDiffers, i+1, c.own, rule)
			}
		}
		if len(live) != len(want) {
			return fmt.Errorf("%w: chain %s has %d rules instead of %d", ErrDiffers, c.own, len(live), len(want))
		}
	}
	return nil
}
