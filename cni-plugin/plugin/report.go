package plugin

import (
	"encoding/json"

	"golang.org/x/sys/unix"
)

// ReportSocket is where the node agent listens, an abstract Unix socket: agent
// and runtime are both in the node's network namespace, and share no folder.
const ReportSocket = "@kubernetes-traffic-manager/traffic-node"

// A Report is what the node agent learns of a pod that was to be redirected.
type Report struct {
	// Seconds that it took.
	Seconds float64 `json:"seconds"`
	Failed  bool    `json:"failed"`
}

// Send hands a report to the agent at a socket. It never waits: a report that
// nobody takes at once is lost, and the pod starts as if it had been sent.
func Send(socket string, r Report) {
	text, err := json.Marshal(r)
	if err != nil {
		return
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return
	}
	_ = unix.Sendto(fd, text, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: socket})
	_ = unix.Close(fd)
}
