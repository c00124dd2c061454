package cluster

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// inotify is the machine's limit of file watchers per user. A kubelet, a
// container runtime and a dozen Envoys use up the usual 128.
const (
	inotify       = "/proc/sys/fs/inotify/max_user_instances"
	inotifyWanted = 8192
)

// raiseSettings raises the machine's limits that a cluster needs, and records
// what they were. The clusters of one state directory share the record.
func (c *Cluster) raiseSettings() error {
	content, err := os.ReadFile(inotify)
	if err != nil {
		return fmt.Errorf("read the limit of file watchers: %w", err)
	}
	now, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		return fmt.Errorf("read the limit of file watchers: %w", err)
	}
	if now >= inotifyWanted {
		return nil
	}
	if err := os.WriteFile(c.settingsRecord(), content, 0o600); err != nil {
		return fmt.Errorf("record the limit of file watchers: %w", err)
	}
	if err := os.WriteFile(inotify, []byte(strconv.Itoa(inotifyWanted)), 0o644); err != nil {
		return fmt.Errorf("raise the limit of file watchers: %w", err)
	}
	return nil
}

// restoreSettings puts the machine's limits back when no cluster of the state
// directory runs any more.
func (c *Cluster) restoreSettings() error {
	record, err := os.ReadFile(c.settingsRecord())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the recorded limit of file watchers: %w", err)
	}
	others, err := filepath.Glob(c.Shared("*", "node.pid"))
	if err != nil {
		return fmt.Errorf("list the clusters: %w", err)
	}
	for _, pidFile := range others {
		if pid, err := runningPID(pidFile); err != nil || pid != 0 {
			return err
		}
	}
	if err := os.WriteFile(inotify, record, 0o644); err != nil {
		return fmt.Errorf("restore the limit of file watchers: %w", err)
	}
	return os.Remove(c.settingsRecord())
}

func (c *Cluster) settingsRecord() string { return c.Shared(".max_user_instances") }
