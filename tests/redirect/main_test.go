// Package redirect_test tries the redirect with real packets: the plugin as a
// runtime runs it, real network namespaces, real sockets of several users. It
// needs root.
package redirect_test

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"slices"
	"testing"
)

// bin is a folder with traffic-cni and the network plugin in it, as /opt/cni/bin
// on a node; traffic-verify is there too.
var bin string

func TestMain(m *testing.M) {
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
	if err := os.Chmod(bin, 0o755); err != nil { // traffic-verify is not root
		return 1, err
	}
	if err := installMissing(); err != nil {
		return 1, err
	}
	const commands = "github.com/kubernetes-traffic-manager/traffic/cni-plugin/cmd/"
	build := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, commands+"traffic-cni", commands+"traffic-verify", "./cmd/"+networkPlugin)
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// debian maps programs to their Debian packages. Without them the cells of the
// back ends that need them fail.
var debian = map[string]string{
	"iptables-nft": "iptables", "iptables-legacy": "iptables", "ip6tables-nft": "iptables", "ip6tables-legacy": "iptables",
	"nft": "nftables", // for rules of pods; ours do without
}

// installMissing installs those of the programs that the machine does not have.
func installMissing() error {
	missing := map[string]bool{}
	for program, pkg := range debian {
		if _, err := exec.LookPath(program); err != nil {
			missing[pkg] = true
		}
	}
	if len(missing) == 0 {
		return nil
	}
	install := append([]string{"install", "-q", "-y", "--no-install-recommends"}, slices.Sorted(maps.Keys(missing))...)
	for _, args := range [][]string{{"update", "-q"}, install} {
		apt := exec.Command("apt-get", args...)
		apt.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
		if out, err := apt.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w\n%s", apt, err, out)
		}
	}
	return nil
}
