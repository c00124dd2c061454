package main

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"
)

// TestRun: a wrong call is told at once, not when the pod is to end.
func TestRun(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, test := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--delay=soon"}, 2, "invalid value"},
		{[]string{"--timeout=0s"}, 2, "must not be negative"},
		{[]string{"now"}, 2, `unknown argument "now"`},
		{[]string{"--silent=/nowhere/silent"}, 1, "/nowhere/silent"},
		{[]string{"--admin=/nowhere/admin.sock", "--silent=" + filepath.Join(t.TempDir(), "silent")}, 1, "/nowhere/admin.sock"},
	} {
		var output bytes.Buffer
		if code := run(ended, test.args, &output); code != test.code || !strings.Contains(output.String(), test.want) {
			t.Errorf("%q: exit code %d, want %d with %q:\n%s", test.args, code, test.code, test.want, &output)
		}
	}
}
