package main

import (
	"io"
	"runtime/debug"
	"testing"
)

// TestMemoryLimit: the collector keeps within what the chart gives the container, with room for what is not Go's.
func TestMemoryLimit(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "")
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	for _, test := range []struct {
		flag string
		want int64
	}{{"0", before}, {"1000000000", 900_000_000}} {
		c, err := parseFlags([]string{"--namespace=x", "--memory-limit=" + test.flag}, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		limitMemory(c.memory)
		if got := debug.SetMemoryLimit(-1); got != test.want {
			t.Errorf("--memory-limit=%s: Go keeps within %d bytes, want %d", test.flag, got, test.want)
		}
	}
}
