// Package redirect_test tries the redirect with real packets: the plugin as a
// runtime runs it, real network namespaces, real sockets of several users. It
// needs root.
package redirect_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The test binary is three programs: the tests, the network plugin that comes
// before ours in a conflist, and the client that dials as another user.
const (
	networkPlugin = "test-network"
	dialer        = "test-dialer"
)

// bin is a folder with traffic-cni and the network plugin in it, as /opt/cni/bin
// on a node; traffic-verify is there too.
var bin string

func TestMain(m *testing.M) {
	switch filepath.Base(os.Args[0]) {
	case networkPlugin:
		os.Exit(runNetworkPlugin())
	case dialer:
		os.Exit(runDialer())
	}
	code, err := runTests(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func runTests(m *testing.M) (code int, err error) {
	if bin, err = os.MkdirTemp("", "redirect"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(bin)
	if err := os.Chmod(bin, 0o755); err != nil { // other users run the dialer
		return 1, err
	}
	if err := installIptables(); err != nil {
		return 1, err
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	data, err := os.ReadFile(self)
	if err != nil {
		return 1, err
	}
	for _, role := range []string{networkPlugin, dialer} {
		if err := os.WriteFile(filepath.Join(bin, role), data, 0o755); err != nil {
			return 1, err
		}
	}
	const commands = "github.com/kubernetes-traffic-manager/traffic/cni-plugin/cmd/"
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, commands+"traffic-cni", commands+"traffic-verify")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// installIptables installs the Debian package with both modes of iptables where
// it is missing. Without it the cells of its back ends fail.
func installIptables() error {
	for _, program := range []string{"iptables-nft", "iptables-legacy", "ip6tables-nft", "ip6tables-legacy"} {
		if _, err := exec.LookPath(program); err == nil {
			continue
		}
		for _, args := range [][]string{{"update", "-q"}, {"install", "-q", "-y", "--no-install-recommends", "iptables"}} {
			install := exec.Command("apt-get", args...)
			install.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
			if out, err := install.CombinedOutput(); err != nil {
				return fmt.Errorf("%s is missing, and so is a way to install it: %w\n%s", program, err, out)
			}
		}
		return nil
	}
	return nil
}
