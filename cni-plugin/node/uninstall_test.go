package node

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// Which answers of the API server mean that the product goes from the node.
func TestUninstalled(t *testing.T) {
	daemonSets := schema.GroupResource{Group: "apps", Resource: "daemonsets"}
	there, going := &appsv1.DaemonSet{}, &appsv1.DaemonSet{}
	going.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	forbidden := apierrors.NewForbidden(daemonSets, "traffic-node", errors.New("no role"))
	unauthorized := apierrors.NewUnauthorized("no such service account")
	for name, c := range map[string]struct {
		ds   *appsv1.DaemonSet
		err  error
		saw  bool
		want bool
	}{
		"restarted, drained or upgraded": {there, nil, true, false},
		"being deleted":                  {going, nil, true, true},
		"deleted":                        {nil, apierrors.NewNotFound(daemonSets, "traffic-node"), true, true},
		"deleted before we started":      {nil, apierrors.NewNotFound(daemonSets, "traffic-node"), false, true},
		"role deleted first":             {nil, forbidden, true, true},
		"service account deleted first":  {nil, unauthorized, true, true},
		"never had the right":            {nil, forbidden, false, false},
		"token never worked":             {nil, unauthorized, false, false},
		"API server does not answer":     {nil, context.DeadlineExceeded, true, false},
		"API server is overloaded":       {nil, apierrors.NewTooManyRequests("later", 1), true, false},
		"API server fails":               {nil, apierrors.NewInternalError(errors.New("etcd")), true, false},
	} {
		if got, why := uninstalled(c.ds, c.err, c.saw); got != c.want || why == "" {
			t.Errorf("%s: uninstall %v because %q", name, got, why)
		}
	}
}

// A restart is what everybody does to a DaemonSet all the time: nothing on the
// node may change by it.
func TestRestartLeavesEverything(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	n.start()
	n.awaitReady()
	conf, bin := snapshot(t, n.config.ConfDir), snapshot(t, n.config.BinDir)
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(conf, snapshot(t, n.config.ConfDir)); diff != "" {
		t.Errorf("configuration changed:\n%s", diff)
	}
	if diff := cmp.Diff(bin, snapshot(t, n.config.BinDir)); diff != "" || len(bin) != 1 {
		t.Errorf("plugins changed:\n%s", diff)
	}
}

// helm uninstall takes the DaemonSet and the rights away; the node is then as it
// was before, and the rules of pods that run stay.
func TestUninstall(t *testing.T) {
	for name, take := range map[string]func(*testNode){
		"DaemonSet deleted": func(n *testNode) {
			if err := n.client.AppsV1().DaemonSets("traffic-system").Delete(context.Background(), "traffic-node", metav1.DeleteOptions{}); err != nil {
				n.Fatal(err)
			}
		},
		"rights deleted": func(n *testNode) {
			n.await("the DaemonSet is seen", func() bool { return n.agent.sawDaemonSet.Load() })
			n.forbid.Store(true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			n.conflist("10-net.conf", `{"cniVersion":"1.0.0","name":"pods","type":"bridge"}`)
			n.conflist("20-old.conflist", strings.Replace(bridge, "\n  ]", `,`+e+"\n  ]", 1))
			n.conflist("30-other.conflist", bridge)
			n.conflist("40-aside.conflist.cilium_bak", strings.Replace(bridge, "\n  ]", `,`+e+"\n  ]", 1))
			n.conflist("whereabouts.kubeconfig", "clusters: [traffic-cni]")
			path := n.runPod("web", injected)
			n.start()
			n.awaitReady()
			n.awaitRedirected(path)
			take(n)
			if err := n.stop(); err != nil {
				t.Fatal(err)
			}
			want := map[string]string{
				"10-net.conf":                  "-rw-r--r--\n" + `{"cniVersion":"1.0.0","name":"pods","type":"bridge"}`,
				"20-old.conflist":              "-rw-r--r--\n" + bridge,
				"30-other.conflist":            "-rw-r--r--\n" + bridge,
				"40-aside.conflist.cilium_bak": "-rw-r--r--\n" + bridge,
				"whereabouts.kubeconfig":       "-rw-r--r--\nclusters: [traffic-cni]",
			}
			if diff := cmp.Diff(want, snapshot(t, n.config.ConfDir)); diff != "" {
				t.Errorf("configuration (-want +got):\n%s", diff)
			}
			if left := snapshot(t, n.config.BinDir); len(left) != 0 {
				t.Errorf("plugins left: %v", left)
			}
			if n.kernel.get(path) == "" {
				t.Error("a pod that runs lost its rules, and with them its policy")
			}
		})
	}
}

// What lies in the folder and is no file cannot keep an uninstall from ending.
func TestUninstallPassesOver(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := errors.Join(
		os.Mkdir(path("folder.conflist"), 0o755),
		os.Symlink(t.TempDir(), path("folder-elsewhere.conflist")),
		os.Symlink(path("gone"), path("nowhere.conflist")),
		syscall.Mkfifo(path("pipe.conflist"), 0o600),
	); err != nil {
		t.Fatal(err)
	}
	if changes, err := planUninstall(dir); err != nil || len(changes) != 0 {
		t.Errorf("%v, %v", changes, err)
	}
	if changes, err := planUninstall(path("missing")); err != nil || len(changes) != 0 {
		t.Errorf("no folder: %v, %v", changes, err)
	}
}

// CRI-O stops a pod with the configuration that it was started with: the binary
// named in there must still be found, or pods hang in Terminating.
func TestUninstallKeepsBinaryForOtherRuntimes(t *testing.T) {
	for id, kept := range map[string]bool{"containerd://1": false, "cri-o://1": true, "": true} {
		n := newNode(t)
		pod, err := n.client.CoreV1().Pods("kube-system").Get(context.Background(), "dns", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{ContainerID: id}}
		if _, err := n.client.CoreV1().Pods("kube-system").UpdateStatus(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		n.conflist("10-net.conflist", bridge)
		n.start()
		n.awaitReady()
		if err := n.stop(); err != nil {
			t.Fatal(err)
		}
		if err := n.agent.uninstall(context.Background()); err != nil {
			t.Fatal(err)
		}
		_, err = os.Stat(filepath.Join(n.config.BinDir, plugin.Type))
		if (err == nil) != kept {
			t.Errorf("with container id %q the binary was kept: %v", id, err == nil)
		}
	}
}

// While a configuration may still name the plugin, the plugin must be there.
func TestUninstallStopsHalfWay(t *testing.T) {
	n := newNode(t)
	n.start()
	n.await("installed", func() bool { _, err := os.Stat(filepath.Join(n.config.BinDir, plugin.Type)); return err == nil })
	n.conflist("10-net.conflist", `{"name":"a","plugins":[`+e+`]}`)
	if err := n.client.AppsV1().DaemonSets("traffic-system").Delete(context.Background(), "traffic-node", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := n.stop(); err == nil || !strings.Contains(err.Error(), "the plugin stays") {
		t.Errorf("stopped with %v", err)
	}
	if _, err := os.Stat(filepath.Join(n.config.BinDir, plugin.Type)); err != nil {
		t.Error(err)
	}
}
