package redirect_test

import (
	"io"
	"net"
	goruntime "runtime"
	"sync"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
)

// dialTimeout is for connections that nobody answers.
const dialTimeout = 5 * time.Second

// target is one address to dial: network is tcp or udp.
type target struct{ Network, Addr string }

func ask(t target) (string, error) {
	c, err := net.DialTimeout(t.Network, t.Addr, dialTimeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return "", err
	}
	if t.Network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		return string(buf[:n]), err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// dial asks targets from a namespace as a user, all at once.
func (w *world) dial(n ns.NetNS, uid uint32, targets []target) []string {
	w.Helper()
	if n == w.pod {
		uid = w.users(uid)
	}
	answers := make([]string, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() {
			var err error
			if answers[i], err = asUser(n, uid, func() (string, error) { return ask(t) }); err != nil {
				answers[i] = "error: " + err.Error()
			}
		})
	}
	all.Wait()
	return answers
}

// asUser calls do on a thread that is in the namespace and is the user's; what it
// opens is too.
func asUser(n ns.NetNS, uid uint32, do func() (string, error)) (answer string, err error) {
	var done sync.WaitGroup
	done.Go(func() {
		goruntime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // does not end
			defer goruntime.UnlockOSThread()
			answer, err = asUser(n, uid, do)
			return
		}
		// Never unlocked: the thread ends with the goroutine.
		if err = n.Set(); err != nil {
			return
		}
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, uintptr(uid), uintptr(uid), uintptr(uid)); errno != 0 {
			err = errno // of this thread alone
			return
		}
		answer, err = do()
	})
	done.Wait()
	return answer, err
}
