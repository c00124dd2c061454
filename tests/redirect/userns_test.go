package redirect_test

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// Users 0 to mappedUsers-1 of a pod with hostUsers: false are others outside.
const (
	firstMapped = 1_000_000
	mappedUsers = 65536
)

// newUserNamespace makes a network namespace that belongs to another user
// namespace, as runtimes do for pods with hostUsers: false.
func newUserNamespace(t testing.TB) ns.NetNS {
	t.Helper()
	users := []syscall.SysProcIDMap{{ContainerID: 0, HostID: firstMapped, Size: mappedUsers}}
	cmd := exec.Command("cat") // holds them until its stdin ends
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: users, GidMappings: users,
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}()
	netns, err := ns.GetNS(fmt.Sprintf("/proc/%d/ns/net", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { netns.Close() })
	return netns
}

// A user of such a pod is compared as the pod knows it: the proxy is user 1337
// inside, and the node's own user 1337 is nobody there.
func TestUserNamespace(t *testing.T) {
	t.Parallel()
	w := serve(wire(t, newUserNamespace(t), dualStack), dualStack)
	w.users = func(uid uint32) uint32 {
		if uid < mappedUsers {
			return firstMapped + uid
		}
		return uid
	}
	w.try(dualStack, noRulesCells)
	for _, backend := range []string{apply.Auto, "nftables"} {
		w.lifecycle(backend, dualStack)
	}
	for _, backend := range backends[1:] {
		r := newRuntime(t, "1.1.0", path(w.pod), encode(t, plain), plugin.NewEntry(backend, false))
		if _, err := r.add(); err == nil || !strings.Contains(err.Error(), "(hostUsers: false), in which iptables cannot tell users apart; use the back end nftables") {
			t.Errorf("%s: ADD: %v", backend, err)
		}
		w.step = "refused by " + backend
		w.try(dualStack, noRulesCells)
	}
	newRuntime(t, "1.1.0", path(w.pod), encode(t, plain), plugin.NewEntry("nftables", false)).mustAdd(t)
	w.step, w.users = "users of the node", func(uid uint32) uint32 { return uid }
	w.try(dualStack, func(f int) []cell {
		return []cell{{"the node's user with the proxy's number", proxyUID, "pod", target{"tcp", at(someone[f], 80)}, proxy}}
	})
}
