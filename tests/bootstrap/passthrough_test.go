package bootstrap_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
)

// TestPassthroughHoldsManyConnections: Envoy's own limit of 1,024 connections to a cluster would reset the next one of an
// application that held more before it was opted in.
func TestPassthroughHoldsManyConnections(t *testing.T) {
	const many = 1100
	c := started(t, passthrough)
	var listener net.Listener
	injected.Inside(t, c.world, func() (err error) {
		listener, err = net.Listen("tcp4", nodeIPv4+":7000")
		return err
	})
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			defer conn.Close() // when there are no more
			_, _ = conn.Write([]byte("."))
		}
	}()
	for n := range many {
		var conn net.Conn
		injected.Inside(t, c.pod, func() (err error) {
			conn, err = net.DialTimeout("tcp4", listener.Addr().String(), patience)
			return err
		})
		t.Cleanup(func() { conn.Close() })
		if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatalf("connection %d: %v", n+1, err)
		}
	}
}
