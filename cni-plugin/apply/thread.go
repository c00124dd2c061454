package apply

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
)

// inside calls do on a thread that is in the network namespace and sees the file
// system at root, unless that is empty; programs that do starts are there too.
func inside(netns ns.NetNS, root string, do func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the one thread that does not end, and by which others know this program
			defer runtime.UnlockOSThread()
			done <- inside(netns, root, do)
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		done <- func() error {
			if err := enter(netns, root); err != nil {
				return err
			}
			return do()
		}()
	}()
	return <-done
}

func enter(netns ns.NetNS, root string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("have mounts and a root folder of one's own: %w", err)
	}
	if root != "" {
		if err := errors.Join(unix.Chroot(root), unix.Chdir("/")); err != nil {
			return fmt.Errorf("enter the node's file system at %s: %w", root, err)
		}
	}
	hideDirectories()
	return netns.Set()
}

// hideDirectories lets programs of this thread know the users of /etc/passwd
// alone: iptables asks for the name of each user, also by number, and where users
// are in a directory such as LDAP, which cannot be reached from the network of a
// pod that is being made, it waits for an answer. Where mounting is forbidden, as
// AppArmor may, it does wait.
func hideDirectories() {
	// Nothing that is mounted here may appear on the node.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err == nil {
		_ = unix.Mount("/dev/null", "/etc/nsswitch.conf", "", unix.MS_BIND, "")
	}
}

// sameUsers reports a network namespace that belongs to another user namespace
// than this program's, in which iptables cannot compare users.
func sameUsers(netns ns.NetNS) error {
	fd, err := unix.IoctlRetInt(int(netns.Fd()), unix.NS_GET_USERNS)
	if err != nil {
		return nil // of an older kernel: it refuses the rule itself
	}
	owner := os.NewFile(uintptr(fd), "user namespace")
	defer owner.Close()
	own, err := os.Stat("/proc/self/ns/user")
	if err != nil {
		return fmt.Errorf("own user namespace: %w", err)
	}
	theirs, err := owner.Stat()
	if err != nil {
		return fmt.Errorf("user namespace of the network namespace: %w", err)
	}
	if !os.SameFile(own, theirs) {
		return errors.New("the pod has a user namespace of its own (hostUsers: false), in which iptables cannot tell users apart; use the back end nftables")
	}
	return nil
}
