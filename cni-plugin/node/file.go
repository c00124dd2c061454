package node

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// tempPattern names files that are being written. Runtimes do not read it: it
// ends in none of their extensions.
const tempPattern = ".traffic-cni-*.tmp"

// isTemporary reports a file that is being written. What happens to it is no reason
// to look again: a write that fails would lead to the next one at once.
func isTemporary(path string) bool {
	matches, _ := filepath.Match(tempPattern, filepath.Base(path))
	return matches
}

// apply carries the change out. A link keeps pointing where it did, and what
// another program wrote since the plan was made stays.
func (c change) apply() error {
	if c.data == nil {
		if err := os.Remove(c.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	path := c.path
	if target, err := filepath.EvalSymlinks(path); err == nil {
		path = target
	}
	before, err := os.Stat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeFile(path, c.data, c.mode, before, c.current)
}

// current reports a file that another program changed since the plan was made.
func (c change) current() error {
	now, _ := os.ReadFile(c.path) // what cannot be read is nil, as in the plan
	if !bytes.Equal(now, c.was) {
		return errChanged
	}
	return nil
}

// writeFile writes path in one step: a reader sees the old content or the new. It
// belongs to whom the file before does, if one is given, and else to us.
// An error of ready, which is asked right before that step, leaves the old.
//
// The temporary file is in the same folder: containerd reloads when a name in
// it goes away, and takes no notice of one that only appears.
func writeFile(path string, data []byte, mode fs.FileMode, before fs.FileInfo, ready func() error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), tempPattern)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write %s: %w", path, err), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = keepOwner(f, before)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err = ready(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// keepOwner gives f to whom the file before belongs, if there was one.
func keepOwner(f *os.File, before fs.FileInfo) error {
	if before == nil {
		return nil
	}
	now, err := f.Stat()
	if err != nil {
		return err
	}
	theirs, ours := before.Sys().(*syscall.Stat_t), now.Sys().(*syscall.Stat_t)
	if theirs.Uid == ours.Uid && theirs.Gid == ours.Gid {
		return nil
	}
	return f.Chown(int(theirs.Uid), int(theirs.Gid))
}

// removeLeftovers removes what writes that were cut off left behind.
func removeLeftovers(dirs ...string) error {
	var errs []error
	for _, dir := range dirs {
		paths, err := filepath.Glob(filepath.Join(dir, tempPattern))
		errs = append(errs, err)
		for _, path := range paths {
			errs = append(errs, os.Remove(path))
		}
	}
	return errors.Join(errs...)
}

// installBinary makes path an executable copy of source and says whether it had
// to. A plugin that is running keeps the file that it was started from.
func installBinary(source, path string) (bool, error) {
	want, err := os.ReadFile(source)
	if err != nil {
		return false, fmt.Errorf("plugin binary: %w", err)
	}
	have, err := os.ReadFile(path)
	if err == nil && bytes.Equal(have, want) && isExecutable(path) {
		return false, nil
	}
	// Ours, whoever put one there before: root runs it.
	if err := writeFile(path, want, 0o755, nil, func() error { return nil }); err != nil {
		return false, fmt.Errorf("install plugin: %w", err)
	}
	return true, nil
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 == 0o111
}

// fileState changes with every write to a file and every change of its mode;
// it is zero when the file cannot be seen.
type fileState struct {
	device, inode uint64
	changed       syscall.Timespec // ctime
}

func stateOf(path string) fileState {
	var s syscall.Stat_t
	if err := syscall.Stat(path, &s); err != nil {
		return fileState{}
	}
	return fileState{device: s.Dev, inode: s.Ino, changed: s.Ctim}
}
