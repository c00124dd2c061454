package injected

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"testing"
)

var addresses atomic.Int32

// FreeAddress is an address and port of this machine for a program that cannot choose a port itself. It is of 127.0.0.0/8 and
// of this process and call alone, so that nobody takes the port before the program does.
func FreeAddress(t testing.TB) string {
	t.Helper()
	pid := os.Getpid()
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 1+pid/256%254, pid%256, 1+addresses.Add(1)%254))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
