package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// It sits in every injected pod's start, in a restricted container: it links
// nothing but the standard library and the redirect spec.
func TestDependencies(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	const module = "github.com/kubernetes-traffic-manager/traffic/cni-plugin/"
	want := module + "redirect\n" + module + "verify\n" + module + "cmd/traffic-verify\n"
	if string(out) != want {
		t.Errorf("links %s\nwant %s", out, want)
	}
}

// A container that is set up wrongly must say what is wrong, in its log and in
// the pod's status.
func TestWrongSetup(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		env  map[string]string
		code int
		want string
	}{
		"no node id":       {nil, map[string]string{"POD_IPS": "10.0.0.1"}, 1, "NODE_ID is empty"},
		"no addresses":     {nil, map[string]string{"NODE_ID": "a.b"}, 1, "POD_IPS"},
		"bad addresses":    {nil, map[string]string{"NODE_ID": "a.b", "POD_IPS": "x"}, 1, "POD_IPS"},
		"no time to wait":  {[]string{"-timeout=0s"}, map[string]string{"NODE_ID": "a.b", "POD_IPS": "10.0.0.1"}, 1, "timeout 0s"},
		"no port":          {[]string{"-ready-port=65536"}, map[string]string{"NODE_ID": "a.b", "POD_IPS": "10.0.0.1"}, 1, "ready port 65536"},
		"unknown flag":     {[]string{"-x"}, nil, 2, "flag provided but not defined"},
		"an argument":      {[]string{"now"}, nil, 2, `unexpected argument "now"`},
		"timeout no value": {[]string{"-timeout=5"}, nil, 2, "timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			log := filepath.Join(t.TempDir(), "termination-log")
			var stderr strings.Builder
			getenv := func(key string) string { return c.env[key] }
			if code := run(append([]string{"-termination-log=" + log}, c.args...), getenv, &stderr); code != c.code {
				t.Errorf("exit code %d, want %d", code, c.code)
			}
			if !strings.Contains(stderr.String(), c.want) {
				t.Errorf("stderr %q does not say %q", &stderr, c.want)
			}
			if reason, err := os.ReadFile(log); c.code == 1 && (err != nil || !strings.Contains(string(reason), c.want)) {
				t.Errorf("termination log %q, %v", reason, err)
			}
		})
	}
}
