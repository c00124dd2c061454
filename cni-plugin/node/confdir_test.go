package node

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// snapshot is a folder's files with their modes.
func snapshot(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		files[name] = fmt.Sprintf("%v\n%s", info.Mode().Perm(), data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func write(t testing.TB, path string, data []byte, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func applyAll(t testing.TB, changes []change, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		if err := c.apply(); err != nil {
			t.Fatal(err)
		}
	}
}

// Each story is a configuration folder as network plugins leave it: the files
// before, and under want/ those that installing makes of them. A second install
// changes nothing, and an uninstall gives back every byte and mode.
func TestConfDirStories(t *testing.T) {
	stories, err := filepath.Glob("testdata/confdir/*.txtar")
	if err != nil || len(stories) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, story := range stories {
		t.Run(strings.TrimSuffix(filepath.Base(story), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(story)
			if err != nil {
				t.Fatal(err)
			}
			dir, wantDir := t.TempDir(), t.TempDir()
			for i, f := range a.Files {
				mode := []fs.FileMode{0o644, 0o600}[i%2]
				if name, ok := strings.CutPrefix(f.Name, "want/"); ok {
					mode = 0o644
					if info, err := os.Stat(filepath.Join(dir, strings.ReplaceAll(name, derivedSuffix, ".conf"))); err == nil {
						mode = info.Mode().Perm()
					}
					write(t, filepath.Join(wantDir, name), f.Data, mode)
					continue
				}
				write(t, filepath.Join(dir, f.Name), f.Data, mode)
				write(t, filepath.Join(wantDir, f.Name), f.Data, mode)
			}
			before := snapshot(t, dir)

			changes, err := planInstall(dir, testEntry(t))
			applyAll(t, changes, err)
			if diff := cmp.Diff(snapshot(t, wantDir), snapshot(t, dir)); diff != "" {
				t.Errorf("installed (-want +got):\n%s", diff)
			}
			if changes, err := planInstall(dir, testEntry(t)); err != nil || len(changes) != 0 {
				t.Errorf("second install: %v, %v", changes, err)
			}
			if got := chained(t, dir); got != plugin.Type {
				t.Errorf("the runtime ends its chain with %q", got)
			}

			changes, err = planUninstall(dir)
			applyAll(t, changes, err)
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("uninstalled (-want +got):\n%s", diff)
			}
		})
	}
}

// chained loads the folder as containerd and CRI-O do, and names the last
// plugin of the network that they use.
func chained(t *testing.T, dir string) string {
	t.Helper()
	paths, err := libcni.ConfFiles(dir, []string{".conf", ".conflist", ".json"})
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths { // ConfFiles sorts by name
		if valid(path) != nil {
			continue
		}
		if !strings.HasSuffix(path, ".conflist") {
			return "only " + path
		}
		list, err := libcni.NetworkConfFromFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return list.Plugins[len(list.Plugins)-1].Network.Type
	}
	return ""
}

// Without a network there is nothing to chain to: the agent says what it waits
// for and which files it could not read.
func TestInstallWithoutNetwork(t *testing.T) {
	for name, c := range map[string]struct {
		files map[string]string
		want  string
	}{
		"empty folder":       {nil, "has not written one"},
		"half written":       {map[string]string{"10-a.conflist": `{"name":"a","plugins":[`}, "10-a.conflist: error parsing"},
		"no plugins":         {map[string]string{"10-a.conflist": `{"name":"a","plugins":[]}`}, "no plugins"},
		"list in a conf":     {map[string]string{"10-a.conf": `{"name":"a","plugins":[{"type":"bridge"}]}`}, "missing 'type'"},
		"plugins in folder":  {map[string]string{"10-a.conflist": `{"name":"a"}`, "a/1.conf": `{"type":"bridge"}`}, "has no plugins of its own"},
		"ours alone":         {map[string]string{"10-a.conflist": `{"name":"a","plugins":[{"type":"traffic-cni"}]}`}, "only plugin"},
		"other extensions":   {map[string]string{"10-a.conflist.bak": `{"name":"a","plugins":[{"type":"bridge"}]}`}, "has not written one"},
		"ours, but not from": {map[string]string{"10-a" + derivedSuffix: `{"name":"a","plugins":[{"type":"bridge"}]}`}, "has not written one"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, data := range c.files {
				write(t, filepath.Join(dir, file), []byte(data), 0o644)
			}
			before := snapshot(t, dir)
			changes, err := planInstall(dir, testEntry(t))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, %v; want %q", changes, err, c.want)
			}
			if diff := cmp.Diff(before, snapshot(t, dir)); diff != "" {
				t.Errorf("changed:\n%s", diff)
			}
		})
	}
	if _, err := planInstall(filepath.Join(t.TempDir(), "missing"), testEntry(t)); err == nil {
		t.Error("a missing folder is no error")
	}
}

// A plugin that is called with a version that it does not speak refuses every
// pod of the node: it is not chained there, and taken out where it is.
func TestInstallRefusesVersions(t *testing.T) {
	for versions, ok := range map[string]bool{
		``:                       false,
		`"cniVersion":"",`:       false,
		`"cniVersion":"0.1.0",`:  false,
		`"cniVersion":"0.2.0",`:  false,
		`"cniVersion":"0.3.0",`:  false,
		`"cniVersion":"0.3.1",`:  true,
		`"cniVersion":"0.4.0",`:  true,
		`"cniVersion":"1.0.0",`:  true,
		`"cniVersion":"1.1.0",`:  true,
		`"cniVersion":"1.2.0",`:  false,
		`"cniVersion":"1.0",`:    false,
		`"cniVersion":"newest",`: false,
		`"cniVersion":"1.0.0","cniVersions":["0.2.0","1.1.0","0.4.0"],`: true,  // 0.2.0 is never the greatest
		`"cniVersion":"0.3.0","cniVersions":["1.0.0"],`:                 false, // what older runtimes use
		`"cniVersions":["1.0.0"],`:                                      false,
		`"cniVersion":"1.0.0","cniVersions":["1.0.0","1.2.0"],`:         false, // what later runtimes use
	} {
		list := `{` + versions + `"name":"a","plugins":[{"type":"bridge"}]}`
		for _, c := range []struct{ name, file, before, refused string }{
			{"list", "10-a.conflist", list, list},
			{"list with our entry", "10-a.conflist", strings.Replace(list, `]}`, `,`+e+`]}`, 1), list},
			{"single plugin", "10-a.conf", `{` + versions + `"name":"a","type":"bridge"}`, `{` + versions + `"name":"a","type":"bridge"}`},
		} {
			if c.file == "10-a.conf" && strings.Contains(versions, "cniVersions") {
				continue // a key of lists
			}
			dir := t.TempDir()
			write(t, filepath.Join(dir, c.file), []byte(c.before), 0o644)
			changes, err := planInstall(dir, testEntry(t))
			if (err == nil) != ok || err != nil && !strings.Contains(err.Error(), "traffic-cni speaks 0.3.1, 0.4.0, 1.0.0, 1.1.0 only") {
				t.Errorf("%s of %s: %v", c.name, versions, err)
			}
			applyAll(t, changes, nil)
			if got := snapshot(t, dir); !ok && (len(got) != 1 || got[c.file] != "-rw-r--r--\n"+c.refused) {
				t.Errorf("%s of %s: refused, but the folder is %v", c.name, versions, got)
			}
			if got := chained(t, dir); ok && got != plugin.Type {
				t.Errorf("%s of %s: the runtime ends its chain with %q", c.name, versions, got)
			}
		}
	}
}
