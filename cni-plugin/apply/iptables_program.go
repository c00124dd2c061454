package apply

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-iptables/iptables"
	"golang.org/x/sys/unix"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// patience with one run of a program, which may wait for a lock.
const patience = 30 * time.Second

// errNotInstalled says that the node does not have a program.
var errNotInstalled = errors.New("not installed on this node")

// usualFolders is where iptables is when it is not in PATH: runtimes start
// plugins with what they like, and an image has a PATH of its own.
var usualFolders = []string{"/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin", "/bin", "/run/current-system/sw/bin"}

// find is the path of the program of a family in this mode: the one that is
// named so, or iptables itself where that is of this mode.
func (b Iptables) find(f family) (string, error) {
	want := f.program + "-" + string(b.Mode)
	if path, ok := lookup(want); ok {
		return path, nil
	}
	path, ok := lookup(f.program)
	if !ok {
		return "", fmt.Errorf("%w: neither %s nor %s is there; install its package iptables, or choose another back end", errNotInstalled, want, f.program)
	}
	// Several programs are one, which may be called by its own name: it tells the mode.
	binary, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	mode := ModeLegacy
	if strings.Contains(filepath.Base(binary), string(ModeNFT)) {
		mode = ModeNFT
	}
	if mode != b.Mode {
		return "", fmt.Errorf("%w: %s is of mode %s, and there is no %s", errNotInstalled, path, mode, want)
	}
	return path, nil
}

func lookup(name string) (string, bool) {
	if path, err := exec.LookPath(name); err == nil {
		return path, true
	}
	for _, dir := range usualFolders {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, true
		}
	}
	return "", false
}

// family is IPv4 or IPv6.
type family struct {
	protocol iptables.Protocol
	program  string
	names    string // of the kernel's file that lists its tables of the legacy mode
	domain   int
	bits     int // of an address
}

var families = []family{
	{iptables.ProtocolIPv4, "iptables", "ip_tables_names", unix.AF_INET, 32},
	{iptables.ProtocolIPv6, "ip6tables", "ip6_tables_names", unix.AF_INET6, 128},
}

// spoken says whether the kernel has the family at all: IPv6 may be missing, and
// then needs no rules.
func (f family) spoken() bool {
	fd, err := unix.Socket(f.domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return false
	}
	_ = unix.Close(fd)
	return true
}

// tables are those of a family, as one program writes and reads them.
type tables struct {
	family  family
	mode    Mode
	program string
}

// command is the program for one rule or chain.
func (t tables) command() (*iptables.IPTables, error) {
	return iptables.New(iptables.IPFamily(t.family.protocol), iptables.Path(t.program))
}

// apply makes our chains those of the program, and reads them back.
func (t tables) apply(p redirect.Program) error {
	if err := t.write(t.create(p)); err != nil {
		live, readErr := t.read()
		if readErr != nil {
			return errors.Join(err, readErr)
		}
		if live.check(t.family, p) == nil {
			return nil
		}
		if err := t.write(t.replace(live, p)); err != nil {
			return fmt.Errorf("write rules: %w", err)
		}
	}
	live, err := t.read()
	if err == nil {
		err = live.check(t.family, p)
	}
	if err != nil {
		return fmt.Errorf("read back rules: %w", err)
	}
	return nil
}

// write has the program carry out lines that begin with a table each, table by
// table: all that is said of one, or nothing.
func (t tables) write(lines string) error {
	_, err := t.run(lines, "-restore", "--noflush", "--wait")
	return err
}

func (t tables) read() (rules, error) {
	if t.mode == ModeLegacy && !t.inUse() {
		return rules{}, nil // and asking would make it so
	}
	text, err := t.run("", "-save")
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	live, err := parseRules(text)
	if err != nil {
		return nil, fmt.Errorf("read rules: %w", err)
	}
	return live, nil
}

// inUse says whether the network namespace has tables of the legacy mode.
func (t tables) inUse() bool {
	names, err := os.ReadFile("/proc/thread-self/net/" + t.family.names)
	return !errors.Is(err, os.ErrNotExist) && (err != nil || len(names) > 0)
}

func (t tables) run(stdin, suffix string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, t.program+suffix, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // nobody would look at what it did
	var stdout, stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(cmd.Path), err, strings.Join(strings.Fields(stderr.String()), " "))
	}
	return stdout.String(), nil
}
