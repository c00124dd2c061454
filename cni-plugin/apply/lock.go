package apply

import (
	"errors"
	"fmt"
	"os"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
)

// locks is a file of the node with a byte for each network namespace and family,
// by the namespace's inode. A lock on the namespace itself could be held by its
// pod, and so keep the agent from all others.
const locks = "/run/traffic-cni.lock"

// lock waits until nobody else of this node reads or writes the tables of a
// family in the network namespace: the plugin and the agent's repair may meet
// there, and iptables tells neither what the other is about to do.
func lock(f family, netns ns.NetNS) (unlock func(), err error) {
	var inode unix.Stat_t
	if err := unix.Fstat(int(netns.Fd()), &inode); err != nil {
		return nil, fmt.Errorf("lock tables: inode of the network namespace: %w", err)
	}
	file, err := os.OpenFile(locks, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock tables: %w", err)
	}
	at := unix.Flock_t{Type: unix.F_WRLCK, Start: 2 * int64(inode.Ino), Len: 1}
	if f.domain == unix.AF_INET6 {
		at.Start++
	}
	for {
		err := unix.FcntlFlock(file.Fd(), unix.F_OFD_SETLKW, &at)
		switch {
		case err == nil:
			return func() { _ = file.Close() }, nil // which unlocks
		case !errors.Is(err, unix.EINTR):
			return nil, errors.Join(fmt.Errorf("lock tables: %w", err), file.Close())
		}
	}
}
