package redirect

import (
	"fmt"
	"net/netip"
	"strings"
)

// Chain is where the kernel looks at a rule. Both back ends hook them in the
// same place: Output is nat OUTPUT, Input is filter INPUT.
type Chain string

// The two chains. Output sees the first packet of every connection that starts
// in the pod; Input sees every packet that is delivered in it.
const (
	Output Chain = "output"
	Input  Chain = "input"
)

// Interface restricts a rule to packets that leave through (Output) or came in
// through (Input) an interface.
type Interface int

// Loopback is the interface lo, NotLoopback every other one.
const (
	AnyInterface Interface = iota
	Loopback
	NotLoopback
)

// Action is what happens to a packet that a rule matches.
type Action string

// Return leaves the packet to rules that are not ours. Redirect sends the
// connection to a port on loopback, where the address that was dialled can still
// be read (SO_ORIGINAL_DST). Reject answers with a TCP reset.
const (
	Return   Action = "return"
	Redirect Action = "redirect"
	Reject   Action = "reject"
)

// Rule matches packets by all of its fields that are not zero, IPv4 and IPv6
// alike unless Dst is set.
type Rule struct {
	Chain     Chain
	Interface Interface
	UID       uint32       // owner of the socket
	Dst       netip.Prefix // destination
	TCP       bool         // TCP only; set wherever Ports, Redirect or Reject is
	Ports     PortRange    // destination ports
	Action    Action
	To        uint16 // port of Redirect
	Comment   string // why; at most 100 bytes of ASCII, it is stored in the kernel
}

// Program is the rules of one pod in order; in each chain the first match
// decides.
type Program []Rule

// Rules is the program of a valid spec.
func Rules(s Spec) Program {
	p := Program{
		{
			Chain: Output, Interface: Loopback, Action: Return,
			Comment: "connections inside the pod are not outbound",
		},
		{
			Chain: Output, UID: s.ProxyUID, Action: Return,
			Comment: "the proxy's own connections would come back to it for ever",
		},
	}
	for _, addr := range []string{VerifyIPv4, VerifyIPv6} {
		a := netip.MustParseAddr(addr)
		p = append(p, Rule{
			Chain: Output, Dst: netip.PrefixFrom(a, a.BitLen()), TCP: true, Action: Redirect, To: s.ProxyPort,
			Comment: "traffic-verify dials this address; no exclusion may hide it",
		})
	}
	for _, cidr := range s.ExcludeCIDRs {
		p = append(p, Rule{
			Chain: Output, Dst: cidr, Action: Return,
			Comment: "excluded destination",
		})
	}
	for _, ports := range s.ExcludePorts {
		p = append(p, Rule{
			Chain: Output, TCP: true, Ports: ports, Action: Return,
			Comment: "excluded ports",
		})
	}
	return append(p,
		Rule{
			Chain: Output, TCP: true, Ports: PortRange{From: 53, To: 53}, Action: Return,
			Comment: "names resolve without the proxy, by TCP as by UDP",
		},
		Rule{
			Chain: Output, TCP: true, Action: Redirect, To: s.ProxyPort,
			Comment: "every other outbound connection goes to the proxy",
		},
		Rule{
			Chain: Input, Interface: NotLoopback, TCP: true, Ports: PortRange{From: s.ProxyPort, To: s.ProxyPort}, Action: Reject,
			Comment: "redirected connections come from loopback; nobody outside may use the proxy",
		},
	)
}

// String is the program as text, one rule a line.
func (p Program) String() string {
	var b strings.Builder
	for _, r := range p {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}

// String is the rule as text: chain, matches, action and comment.
func (r Rule) String() string {
	words := []string{string(r.Chain)}
	switch r.Interface {
	case AnyInterface:
	case Loopback:
		words = append(words, "interface lo")
	case NotLoopback:
		words = append(words, "interface not lo")
	}
	if r.UID != 0 {
		words = append(words, fmt.Sprintf("uid %d", r.UID))
	}
	if r.Dst.IsValid() {
		words = append(words, fmt.Sprintf("to %s", r.Dst))
	}
	if r.TCP {
		words = append(words, "tcp")
	}
	if r.Ports != (PortRange{}) {
		words = append(words, fmt.Sprintf("port %s", r.Ports))
	}
	words = append(words, string(r.Action))
	if r.Action == Redirect {
		words = append(words, fmt.Sprint(r.To))
	}
	return fmt.Sprintf("%-56s # %s", strings.Join(words, " "), r.Comment)
}
