package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containernetworking/cni/libcni"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// derivedSuffix ends the names of conflists that are ours altogether: those made
// from a file that holds a single plugin, which cannot be chained in place. The
// hyphen sorts before the dot of the original's extension, so that the runtime
// takes 10-bridge-traffic-cni.conflist before 10-bridge.conf.
const derivedSuffix = "-traffic-cni.conflist"

// change is one file to write or, without data, to remove.
type change struct {
	path string
	was  []byte // what the plan was made from; nil if there was no file to read
	data []byte
	mode fs.FileMode
}

// errChanged is wrapped when a file is not what the plan was made from any more.
var errChanged = errors.New("another program changed it since it was read")

// planInstall lists what must change in the runtime's configuration folder for
// pods that start from now on to reach our plugin: nothing, if they do already.
// With an error, the changes are those that keep other pods starting.
func planInstall(dir string, entry []byte) ([]change, error) {
	active, err := activeFile(dir)
	if err != nil {
		return nil, err
	}
	data, mode, err := readFile(active)
	if err != nil {
		return nil, fmt.Errorf("active CNI configuration: %w", err)
	}
	target, have := active, data
	var want []byte
	if strings.HasSuffix(active, ".conflist") {
		want, err = insert(data, entry)
	} else {
		target = derivedFrom(active)
		have, _ = os.ReadFile(target) // what cannot be read is written anew
		want, err = derive(data, entry)
	}
	if err != nil {
		return nil, fmt.Errorf("active CNI configuration %s: %w", active, err)
	}
	if err := checkVersion(want); err != nil {
		// An entry from before, when list or plugin had another version, fails every pod.
		changes, uninstallErr := planUninstall(dir)
		return changes, errors.Join(fmt.Errorf("active CNI configuration %s: %w", active, err), uninstallErr)
	}
	var changes []change
	if string(have) != string(want) {
		changes = append(changes, change{path: target, was: have, data: want, mode: mode})
	}
	derived, err := filepath.Glob(filepath.Join(dir, "*"+derivedSuffix))
	for _, path := range derived {
		if path != target {
			changes = append(changes, change{path: path})
		}
	}
	return changes, err
}

func derivedFrom(conf string) string {
	return strings.TrimSuffix(conf, filepath.Ext(conf)) + derivedSuffix
}

// chainedEntry is our entry in the configuration that runtimes use.
func chainedEntry(dir string) (plugin.Entry, error) {
	var entry plugin.Entry
	path, err := activeFile(dir)
	if err != nil {
		return entry, err
	}
	if !strings.HasSuffix(path, ".conflist") {
		path = derivedFrom(path)
	}
	list, err := os.ReadFile(path)
	if err != nil {
		return entry, err
	}
	plugins, err := scan(list)
	if err != nil {
		return entry, fmt.Errorf("%s: %w", path, err)
	}
	for _, p := range plugins {
		if p.ours {
			return entry, json.Unmarshal(list[p.start:p.end], &entry)
		}
	}
	return entry, fmt.Errorf("%s: has no entry of ours", path)
}

// planUninstall lists what must change for the folder to hold nothing of ours,
// whatever the names of its files: one that somebody moved aside comes back.
func planUninstall(dir string) ([]change, error) {
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("CNI configuration folder: %w", err)
	}
	var changes []change
	var errs []error
	for _, f := range files {
		path := filepath.Join(dir, f.Name())
		if info, err := os.Stat(path); err == nil && !info.Mode().IsRegular() || errors.Is(err, fs.ErrNotExist) {
			continue // holds no configuration, or nothing by now
		}
		if strings.HasSuffix(path, derivedSuffix) {
			changes = append(changes, change{path: path})
			continue
		}
		data, mode, err := readFile(path)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		plugins, err := scan(data)
		if err != nil || !slices.ContainsFunc(plugins, func(e element) bool { return e.ours }) {
			continue // not ours, so not our business
		}
		without, err := remove(data)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", path, err))
			continue
		}
		changes = append(changes, change{path: path, was: data, data: without, mode: mode})
	}
	return changes, errors.Join(errs...)
}

func readFile(path string) ([]byte, fs.FileMode, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	data, err := os.ReadFile(path)
	return data, info.Mode().Perm(), err
}

// activeFile is the configuration that runtimes use: of .conflist, .conf and
// .json the first one by name that is valid. Ours, which stand for another, do
// not count.
func activeFile(dir string) (string, error) {
	paths, err := libcni.ConfFiles(dir, []string{".conflist", ".conf", ".json"})
	if err != nil {
		return "", fmt.Errorf("CNI configuration folder: %w", err)
	}
	slices.Sort(paths)
	var invalid []error
	for _, path := range paths {
		if strings.HasSuffix(path, derivedSuffix) {
			continue
		}
		if err := valid(path); err != nil {
			invalid = append(invalid, fmt.Errorf("%s: %w", path, err))
			continue
		}
		return path, nil
	}
	return "", errors.Join(append([]error{fmt.Errorf("no valid CNI configuration in %s: the cluster's network plugin has not written one", dir)}, invalid...)...)
}

func valid(path string) error {
	if strings.HasSuffix(path, ".conflist") {
		_, err := libcni.NetworkConfFromFile(path)
		return err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	_, err = libcni.NetworkPluginConfFromBytes(data)
	return err
}

// derive makes a conflist of a single plugin, whose bytes it keeps, and ours.
func derive(conf, entry []byte) ([]byte, error) {
	single, err := libcni.NetworkPluginConfFromBytes(conf)
	if err != nil {
		return nil, err
	}
	head, err := json.Marshal(struct {
		CNIVersion string `json:"cniVersion,omitempty"`
		Name       string `json:"name"`
	}{single.Network.CNIVersion, single.Network.Name})
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%s,\"plugins\":[\n%s,\n%s\n]}\n",
		strings.TrimSuffix(string(head), "}"), strings.TrimSpace(string(conf)), entry), nil
}
