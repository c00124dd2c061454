package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// component makes a script command "NAME COMPONENT" that does something to a part of the node, such as etcd, and returns when it
// is done.
func component(name string, do func(context.Context, string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) != 1 {
			ts.Fatalf("usage: %s component", name)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		ts.Check(do(ctx, args[0]))
	}
}

// cut is the script command "cut PORT": from now on the pods that "aim" found get no packet from the port of others, and none
// of theirs gets there.
func (l local) cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cut port")
	}
	for _, network := range aims(ts, networks) {
		ts.Check(filter(network, fmt.Sprintf(`table inet cut {
			chain to { type filter hook output priority 0; tcp dport %[1]s drop; }
			chain from { type filter hook input priority 0; tcp sport %[1]s drop; }
		}`, args[0])))
	}
}

// lost is the script command "lost PORT": it waits until the pods that "aim" found have given up every connection to that port of
// others, which "cut" silenced.
func (l local) lost(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: lost port")
	}
	const limit = 3 * time.Minute
	deadline := time.Now().Add(limit)
	for _, network := range aims(ts, networks) {
		for {
			ss := exec.Command("nsenter", "--net="+network, "ss", "-Htn", "state", "established", "dport", "=", args[0])
			connections, err := ss.CombinedOutput()
			if err != nil {
				ts.Fatalf("%v: %s", err, connections)
			}
			if len(connections) == 0 {
				break
			}
			if time.Now().After(deadline) {
				ts.Fatalf("after %s there are still\n%s", limit, connections)
			}
			time.Sleep(time.Second)
		}
	}
}

// heal is the script command "heal": it ends what "cut" began.
func (l local) heal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: heal")
	}
	for _, network := range aims(ts, networks) {
		ts.Check(filter(network, "delete table inet cut"))
	}
}

// filter changes the packet filter of a network namespace.
func filter(network, rules string) error {
	nft := exec.Command("nsenter", "--net="+network, "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}
