package apply

import (
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// register is the one that expressions of a rule hand their value on in.
const register = 1

// expressions translates a rule for nf_tables. Each match is a load into the
// register and a comparison; what does not match ends the rule.
func expressions(r redirect.Rule) []expr.Any {
	var e []expr.Any
	if r.Interface != redirect.AnyInterface {
		e = append(e, matchLoopback(r)...)
	}
	if r.UID != 0 {
		e = append(e, load(expr.MetaKeySKUID), equal(binaryutil.NativeEndian.PutUint32(r.UID)))
	}
	if r.Dst.IsValid() {
		e = append(e, matchDst(r.Dst)...)
	}
	if r.TCP {
		e = append(e, load(expr.MetaKeyL4PROTO), equal([]byte{unix.IPPROTO_TCP}))
	}
	if r.Ports != (redirect.PortRange{}) {
		e = append(e, matchPorts(r.Ports)...)
	}
	return append(e, act(r)...)
}

func load(key expr.MetaKey) expr.Any {
	return &expr.Meta{Key: key, Register: register}
}

func equal(data []byte) expr.Any {
	return &expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}
}

func matchLoopback(r redirect.Rule) []expr.Any {
	key := expr.MetaKeyOIFNAME
	if r.Chain == redirect.Input {
		key = expr.MetaKeyIIFNAME
	}
	op := expr.CmpOpEq
	if r.Interface == redirect.NotLoopback {
		op = expr.CmpOpNeq
	}
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []expr.Any{load(key), &expr.Cmp{Op: op, Register: register, Data: name}}
}

// matchDst compares the destination address of one family; packets of the other
// one do not match.
func matchDst(dst netip.Prefix) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16) // of the address in the IP header, in bytes
	if dst.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	addr := dst.Addr().AsSlice()
	length := uint32(len(addr))
	e := []expr.Any{
		load(expr.MetaKeyNFPROTO), equal([]byte{family}),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: length},
	}
	if !dst.IsSingleIP() {
		e = append(e, &expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: length,
			Mask: net.CIDRMask(dst.Bits(), dst.Addr().BitLen()), Xor: make([]byte, length),
		})
	}
	return append(e, equal(addr))
}

// matchPorts compares the TCP destination port, the second field of the header.
func matchPorts(ports redirect.PortRange) []expr.Any {
	from, to := binaryutil.BigEndian.PutUint16(ports.From), binaryutil.BigEndian.PutUint16(ports.To)
	dport := &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2}
	if ports.From == ports.To {
		return []expr.Any{dport, equal(from)}
	}
	return []expr.Any{dport, &expr.Range{Op: expr.CmpOpEq, Register: register, FromData: from, ToData: to}}
}

func act(r redirect.Rule) []expr.Any {
	switch r.Action {
	case redirect.Redirect:
		return []expr.Any{
			&expr.Immediate{Register: register, Data: binaryutil.BigEndian.PutUint16(r.To)},
			&expr.Redir{RegisterProtoMin: register, RegisterProtoMax: register, Flags: unix.NF_NAT_RANGE_PROTO_SPECIFIED},
		}
	case redirect.Reject:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	default:
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
	}
}
