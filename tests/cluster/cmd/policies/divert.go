package main

import (
	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
	"golang.org/x/sys/unix"
)

// pods is the bridge that pods are on.
const pods = "cni0"

// divert sends what begins a TCP connection of a pod to a queue, once it is addressed to what is behind a Service. The controller's
// own rules use the queue of nftables, which a kernel may be built without; they then fail, and it goes on. This is the
// queue of iptables, to the same reader.
func divert(queue uint16) error {
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	table := nft.AddTable(&nftables.Table{Name: "policies", Family: nftables.TableFamilyINet})
	chain := nft.AddChain(&nftables.Chain{
		Table: table, Name: "begin", Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting,
		Priority: nftables.ChainPriorityRef(*nftables.ChainPriorityNATDest + 5),
	})
	target := xt.Unknown(append(binaryutil.NativeEndian.PutUint16(queue), make([]byte, 6)...)) // as long as the kernel aligns it to
	from := make([]byte, unix.IFNAMSIZ)
	copy(from, pods)
	nft.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: from},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitNEW), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Target{Name: "NFQUEUE", Info: &target},
	}})
	return nft.Flush()
}
