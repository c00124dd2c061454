package redirect_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/node"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// elsewhere is a folder of a disk in which the agent sees nothing happen.
const elsewhere = "elsewhere"

// fullDisks are the ways in which a disk is full, and what fills it.
var fullDisks = map[string]func(t *testing.T, dir string) []string{
	"no room": func(t *testing.T, dir string) []string {
		path := filepath.Join(dir, elsewhere, "filler")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for page := make([]byte, os.Getpagesize()); err == nil; {
			_, err = f.Write(page)
		}
		mustBeFull(t, err)
		return []string{path}
	},
	"no inodes": func(t *testing.T, dir string) (files []string) {
		for i := 0; ; i++ {
			path := filepath.Join(dir, elsewhere, fmt.Sprintf("filler-%d", i))
			if err := os.WriteFile(path, nil, 0o644); err != nil {
				mustBeFull(t, err)
				return files
			}
			files = append(files, path)
		}
	},
}

func mustBeFull(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
}

// smallDisk makes a folder a file system of its own.
func smallDisk(t *testing.T, dir string) {
	t.Helper()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m,nr_inodes=64"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	if err := os.Mkdir(filepath.Join(dir, elsewhere), 0o755); err != nil {
		t.Fatal(err)
	}
}

// A node without room for the plugin or its entry starts all pods: those that opted
// in are redirected by the agent's repair, which writes no file. Nothing is left half
// written, the agent says what is wrong where, and puts it right once there is room.
func TestFullDisk(t *testing.T) {
	for name, fill := range fullDisks {
		for _, full := range []string{"CNI configuration", "CNI plugins"} {
			t.Run(name+" for "+full, func(t *testing.T) {
				t.Parallel()
				config, client := oneNode(t), withDaemonSet()
				dir := map[string]string{"CNI configuration": config.ConfDir, "CNI plugins": config.BinDir}[full]
				smallDisk(t, dir)
				list := filepath.Join(config.ConfDir, "10-net.conflist")
				if err := os.WriteFile(list, []byte(conflist), 0o644); err != nil {
					t.Fatal(err)
				}
				filler := fill(t, dir)
				startAgent(t, config, client)
				awaitAnswer(t, config, "/readyz", dir, "no space left on device")

				w := newWorld(t, dualStack)
				w.serveEnvoy("web-0.shop")
				w.startPod(config, client, "web-0", w.pod)
				verifying := w.startVerify("web-0.shop")
				if err := w.start(config, client, "other", newNamespace(t), ""); err != nil {
					t.Errorf("a pod that did not opt in does not start: %v", err)
				}
				if err := verifying.cmd.Wait(); err != nil {
					t.Errorf("the pod that opted in is not redirected: %v", err)
				}
				awaitEvent(t, client, "shop", "web-0", "RedirectRepaired")
				await(t, "nothing half written", func() error { return onlyWhole(config) })
				if data, err := os.ReadFile(list); err != nil || string(data) != conflist {
					t.Errorf("the configuration is %s, %v", data, err)
				}

				for _, path := range filler {
					if err := os.Remove(path); err != nil {
						t.Fatal(err)
					}
				}
				awaitAnswer(t, config, "/readyz", "ok")
				next := newNamespace(t)
				w.startPod(config, client, "web-1", next)
				if err := (apply.Nftables{}).Check(next, plain); err != nil {
					t.Errorf("a pod that starts once there is room: %v", err)
				}
				if err := onlyWhole(config); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// The plugin before an upgrade stays, and redirects, until there is room for the new one.
func TestUpgradeOfAFullDisk(t *testing.T) {
	newer := newerPlugin(t)
	for name, fill := range fullDisks {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config, client := oneNode(t), withDaemonSet()
			smallDisk(t, config.BinDir)
			stop := startAgent(t, config, client)
			awaitAnswer(t, config, "/readyz", "ok")
			stop()
			filler := fill(t, config.BinDir)
			upgraded := config
			upgraded.Plugin = newer
			startAgent(t, upgraded, client)
			awaitAnswer(t, config, "/readyz", "install plugin", "no space left on device")
			w, netns := &world{TB: t}, newNamespace(t)
			w.startPod(config, client, "web-0", netns)
			if err := (apply.Nftables{}).Check(netns, plain); err != nil {
				t.Errorf("the plugin before does not redirect: %v", err)
			}
			if !sameFile(t, installed(config), config.Plugin) {
				t.Error("the plugin before is not whole")
			}
			for _, path := range filler {
				if err := os.Remove(path); err != nil {
					t.Fatal(err)
				}
			}
			awaitAnswer(t, config, "/readyz", "ok")
			if !sameFile(t, installed(config), newer) {
				t.Error("ready without the new plugin")
			}
		})
	}
}

// withDaemonSet is an API server that shows the agent's DaemonSet, so that an agent
// that stops leaves the node as it is.
func withDaemonSet() *fake.Clientset {
	return fake.NewClientset(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "traffic-system", Name: "traffic-node"}})
}

func installed(c node.Config) string { return filepath.Join(c.BinDir, plugin.Type) }

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	y, otherErr := os.ReadFile(b)
	if err := errors.Join(err, otherErr); err != nil {
		t.Error(err)
	}
	return bytes.Equal(x, y)
}

// onlyWhole reports a file in the folders that the agent writes that is neither the
// configuration nor the whole plugin.
func onlyWhole(c node.Config) error {
	var errs []error
	for _, dir := range []string{c.ConfDir, c.BinDir} {
		files, err := os.ReadDir(dir)
		errs = append(errs, err)
		for _, file := range files {
			if path := filepath.Join(dir, file.Name()); !file.IsDir() && path != filepath.Join(c.ConfDir, "10-net.conflist") && path != installed(c) {
				errs = append(errs, fmt.Errorf("%s is left", path))
			}
		}
	}
	have, err := os.ReadFile(installed(c))
	want, wantErr := os.ReadFile(c.Plugin)
	errs = append(errs, wantErr)
	if err == nil && !bytes.Equal(have, want) {
		errs = append(errs, fmt.Errorf("%s is not whole: %d of %d bytes", installed(c), len(have), len(want)))
	}
	return errors.Join(errs...)
}

// awaitAnswer waits until the agent answers with all the texts.
func awaitAnswer(t *testing.T, c node.Config, path string, texts ...string) {
	t.Helper()
	await(t, path, func() error {
		response, err := http.Get("http://" + c.Listen + path)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		for _, text := range texts {
			if !strings.Contains(string(body), text) {
				err = errors.Join(err, fmt.Errorf("answer %q is without %q", body, text))
			}
		}
		return err
	})
}
