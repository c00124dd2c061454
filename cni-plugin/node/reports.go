package node

import (
	"context"
	"encoding/json"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// listenReports opens the socket at which plugins report. Other processes in the
// node's network namespace can reach it, so each datagram comes with its sender.
func listenReports(socket string) (*net.UnixConn, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for reports of the CNI plugin: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err == nil {
		var setErr error
		err = raw.Control(func(fd uintptr) { setErr = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PASSCRED, 1) })
		if err == nil {
			err = setErr
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("ask who sends reports of the CNI plugin: %w", err)
	}
	return conn, nil
}

// watchReports counts reports until ctx ends. Without the socket everything else
// works as well.
func (a *Agent) watchReports(ctx context.Context) {
	if a.reports == "" {
		return
	}
	conn, err := listenReports(a.reports)
	if err != nil {
		a.log.Warn("the time of the CNI plugin is not measured", "error", err)
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	a.metrics.count(conn, 0) // root, as which runtimes run plugins
}

// count observes what a user reports on conn until it is closed.
func (m *metrics) count(conn *net.UnixConn, user uint32) {
	text, control := make([]byte, 256), make([]byte, unix.CmsgSpace(unix.SizeofUcred))
	for {
		n, c, _, _, err := conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		var r plugin.Report
		if !isFrom(user, control[:c]) || json.Unmarshal(text[:n], &r) != nil || r.Seconds < 0 {
			continue
		}
		result := "redirected"
		if r.Failed {
			result = "failed"
		}
		m.plugin.WithLabelValues(result).Observe(r.Seconds)
	}
}

// isFrom reads from a datagram's control messages whether the user sent it.
func isFrom(user uint32, control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil || len(messages) != 1 {
		return false
	}
	sender, err := unix.ParseUnixCredentials(&messages[0])
	return err == nil && sender.Uid == user
}
