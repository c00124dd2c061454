package node

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
)

// connectProbe finds out whether a network add-on balances connections when they
// are made: a program of its own then puts the address of a pod in place of a
// cluster IP inside connect(2), before there is a packet to redirect.
//
// It looks at what happens and not at which programs there are, because Cilium
// attaches the same ones when it leaves pods alone. It sees what is done to the one
// address that it asks for, of one family, in one injected pod of this node. Where
// there is none, or it cannot see, the add-on's configuration counts.
type connectProbe struct {
	service netip.AddrPort // of the Kubernetes API; not valid for no probe
	// target is connectTarget.
	target func(netns ns.NetNS, dialled netip.AddrPort) (netip.AddrPort, error)
	addOn  atomic.Pointer[addOn] // nil until it is known
	node   *corev1.ObjectReference
	reporter
	metrics *metrics
	log     *slog.Logger

	due     bool           // before the next pod is left
	reached netip.AddrPort // by the last look, which failed with err
	err     error
	said    conclusion // last
}

// conclusion is what was found out.
type conclusion struct {
	text      string
	rewritten bool
	by        addOn // as far as it is known
}

// look asks in one pod, when it is due.
func (p *connectProbe) look(netns ns.NetNS) {
	if !p.due || !p.service.IsValid() {
		return
	}
	p.due = false
	p.reached, p.err = p.target(netns, p.service)
}

// conclude says what became different since the last pass.
func (p *connectProbe) conclude() {
	by := addOn{}
	if known := p.addOn.Load(); known != nil {
		by = *known
	}
	seen := !p.due && p.err == nil && p.reached.IsValid()
	before, now := p.said, conclusion{by: by}
	switch {
	case !seen && p.err == nil && by == before.by:
		return // nobody knows more than before, and what was seen in a pod stands
	case seen && p.reached != p.service:
		now.rewritten = true
		now.text = fmt.Sprintf("a pod that connects to the cluster IP %s is sent to %s before its connection can be redirected: labels of Services do not act. %s",
			p.service, p.reached, by.advice())
	case !seen && by.has != "":
		now.rewritten = true
		now.text = "pods that connect to cluster IPs are sent elsewhere before their connections can be redirected: labels of Services do not act. " + by.advice()
	case p.err != nil:
		now.text = fmt.Sprintf("cannot tell whether connections are balanced when they are made: %v", p.err)
	}
	p.said = now
	p.metrics.rewritten.Set(0)
	if now.rewritten {
		p.metrics.rewritten.Set(1)
	}
	switch {
	case now.text == before.text, now.rewritten && before.rewritten && by == before.by: // perhaps to another endpoint
	case now.rewritten:
		p.log.Warn(now.text)
		p.event(p.node, corev1.EventTypeWarning, reasonBypassed, "Verify", now.text)
	case now.text != "":
		p.log.Warn(now.text)
	default:
		p.log.Info("connections to cluster IPs reach the redirect", "service", p.service)
	}
}

// advice says which setting must change.
func (a addOn) advice() string {
	if a.has != "" {
		return fmt.Sprintf("It is %s, whose %s has %s: set %s", a.name, a.where, a.has, a.set)
	}
	text := "The network add-on must leave pods to the redirect: Cilium does with socketLB.hostNamespaceOnly=true, " +
		"Calico with bpfConnectTimeLoadBalancing: Disabled and bpfHostNetworkedNATWithoutCTLB: Enabled in its FelixConfiguration"
	if a.name != "" {
		text += fmt.Sprintf("; %s of %s says that it does: have its agents been restarted since?", a.where, a.name)
	}
	return text
}

// connectTarget is where a TCP connection to dialled goes that is made in a network
// namespace. No packet is sent: the kernel holds the first one back until there is
// something to write, which there never is.
func connectTarget(netns ns.NetNS, dialled netip.AddrPort) (target netip.AddrPort, err error) {
	err = netns.Do(func(ns.NetNS) error {
		target, err = connectHere(dialled)
		return err
	})
	return target, err
}

func connectHere(dialled netip.AddrPort) (target netip.AddrPort, err error) {
	family, table := unix.AF_INET6, "/proc/thread-self/net/tcp6"
	var address unix.Sockaddr = &unix.SockaddrInet6{Port: int(dialled.Port()), Addr: dialled.Addr().As16()}
	if dialled.Addr().Is4() {
		family, table = unix.AF_INET, "/proc/thread-self/net/tcp"
		address = &unix.SockaddrInet4{Port: int(dialled.Port()), Addr: dialled.Addr().As4()}
	}
	socket, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return target, fmt.Errorf("socket: %w", err)
	}
	defer func() { err = errors.Join(err, unix.Close(socket)) }()
	for _, option := range []int{unix.TCP_FASTOPEN_NO_COOKIE, unix.TCP_FASTOPEN_CONNECT} {
		if err := unix.SetsockoptInt(socket, unix.IPPROTO_TCP, option, 1); err != nil {
			return target, fmt.Errorf("hold the first packet back (net.ipv4.tcp_fastopen is 0?): %w", err)
		}
	}
	if err := unix.Connect(socket, address); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return target, fmt.Errorf("connect to %s: %w", dialled, err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(socket, &stat); err != nil {
		return target, err
	}
	// Not getpeername: the add-on has it answer what was dialled.
	text, err := os.ReadFile(table)
	if err != nil {
		return target, err
	}
	return remote(text, stat.Ino)
}

// remote is the remote address of the socket with that inode in a table of
// /proc/net, in which addresses are words of 32 bits in the machine's own order.
func remote(table []byte, inode uint64) (netip.AddrPort, error) {
	const remoteColumn, inodeColumn = 2, 9
	for line := range bytes.Lines(table) {
		columns := strings.Fields(string(line))
		if len(columns) <= inodeColumn || columns[inodeColumn] != strconv.FormatUint(inode, 10) {
			continue
		}
		host, portText, _ := strings.Cut(columns[remoteColumn], ":")
		raw, err := hex.DecodeString(host)
		if err != nil || len(raw)%4 != 0 {
			return netip.AddrPort{}, fmt.Errorf("remote address %q of a socket", host)
		}
		for i := 0; i < len(raw); i += 4 {
			binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
		}
		addr, ok := netip.AddrFromSlice(raw)
		port, err := strconv.ParseUint(portText, 16, 16)
		if !ok || err != nil {
			return netip.AddrPort{}, fmt.Errorf("remote address %q of a socket", columns[remoteColumn])
		}
		return netip.AddrPortFrom(addr, uint16(port)), nil
	}
	return netip.AddrPort{}, errors.New("the socket is not in the kernel's table")
}
