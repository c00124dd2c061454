package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// setting is a limit of the whole machine that clusters need higher.
type setting struct {
	file   string // of the kernel
	wanted int
	record string // where its first value is kept while clusters run
}

// watchers is the machine's limit of file watchers per user: a kubelet, a
// container runtime and a dozen Envoys use up the usual 128. The clusters of
// one state directory share the record.
func (c *Cluster) watchers() setting {
	return setting{"/proc/sys/fs/inotify/max_user_instances", 8192, c.Shared(".max_user_instances")}
}

// raise raises the limit, unless it is high enough.
func (s setting) raise() error {
	content, err := os.ReadFile(s.file)
	if err != nil {
		return fmt.Errorf("read the machine's limit: %w", err)
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return fmt.Errorf("read the machine's limit %s: %w", s.file, err)
	}
	if now >= s.wanted {
		return nil
	}
	if err := os.WriteFile(s.record, content, 0o600); err != nil {
		return fmt.Errorf("record %s=%d: %w", s.file, now, err)
	}
	if err := os.WriteFile(s.file, []byte(strconv.Itoa(s.wanted)), 0o644); err != nil {
		return fmt.Errorf("raise %s from %d to %d: %w", s.file, now, s.wanted, err)
	}
	return nil
}

// restore puts the limit back to what raise found.
func (s setting) restore() error {
	content, err := os.ReadFile(s.record)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the recorded limit: %w", err)
	}
	if err := os.WriteFile(s.file, content, 0o644); err != nil {
		return fmt.Errorf("restore %s to %s: %w", s.file, content, err)
	}
	return os.Remove(s.record)
}

// loadBridgeFilter loads the kernel module that lets packets between pods pass
// netfilter, unless the kernel has it. It stays loaded.
func loadBridgeFilter(ctx context.Context) error {
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		return nil
	}
	if out, err := exec.CommandContext(ctx, "modprobe", "br_netfilter").CombinedOutput(); err != nil {
		return fmt.Errorf("load the kernel module br_netfilter: %w\n%s", err, out)
	}
	return nil
}

// alone reports whether no cluster of the state directory runs.
func (c *Cluster) alone() (bool, error) {
	records, err := filepath.Glob(c.Shared("*", "node.pid"))
	if err != nil {
		return false, fmt.Errorf("list the clusters: %w", err)
	}
	for _, record := range records {
		if pid, err := runningPID(record); err != nil || pid != 0 {
			return false, err
		}
	}
	return true, nil
}
