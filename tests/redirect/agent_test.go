package redirect_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/plugins/pkg/ns"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/node"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// conflist is a cluster's configuration before the agent came.
const conflist = `{
  "cniVersion": "1.0.0",
  "name": "pods",
  "plugins": [
    {"type": "test-network", "result": {"cniVersion": "1.0.0", "ips": [{"address": "10.99.0.2/24"}]}}
  ]
}
`

// A pod that the plugin missed waits, is repaired by the agent, and goes on; the
// next pod is redirected by the plugin that the agent has chained.
func TestMissedPodIsRepaired(t *testing.T) {
	config, client := oneNode(t), fake.NewClientset()
	w := newWorld(t, dualStack)
	w.serve(w.outside, outside, redirect.VerifyPort)
	w.serveEnvoy("web-0.shop")
	w.startPod(config, client, "web-0", w.pod)

	verifying := w.startVerify("web-0.shop")
	if line := verifying.line(); !strings.Contains(line, "waiting up to 1m0s: an outbound IPv4 connection") {
		t.Fatalf("without rules traffic-verify printed %q", line)
	}
	startAgent(t, config, client)
	if line := verifying.line(); !strings.Contains(line, "outbound connections of web-0.shop reach its Envoy") {
		t.Fatalf("after the repair traffic-verify printed %q", line)
	}
	if err := verifying.cmd.Wait(); err != nil {
		t.Errorf("traffic-verify: %v", err)
	}
	awaitEvent(t, client, "shop", "web-0", "RedirectRepaired")

	next := newNamespace(t)
	w.startPod(config, client, "web-1", next)
	if err := (apply.Nftables{}).Check(next, plain); err != nil {
		t.Errorf("the next pod: %v", err)
	}
}

// A node whose back end is changed keeps its pods redirected, by the new one
// alone: what the old one left would go on excluding what is excluded no more.
func TestBackendIsChanged(t *testing.T) {
	for i, backend := range backends {
		t.Run("to "+backend, func(t *testing.T) {
			config, client := oneNode(t), fake.NewClientset()
			config.Backend, config.HostRoot = backend, "/"
			w := newServedWorld(t, dualStack)
			before := slices.Concat(backends[:i], backends[i+1:])
			for _, old := range before {
				newRuntime(t, "1.1.0", path(w.pod), encode(t, excludingAll), plugin.NewEntry(old, false)).mustAdd(t)
			}
			w.startPod(config, client, "web-0", w.pod) // which no plugin redirects yet
			startAgent(t, config, client)
			awaitEvent(t, client, "shop", "web-0", "RedirectRepaired")
			awaitMetric(t, config.Listen, `traffic_node_backend{backend="`+backend+`"} 1`)
			w.step = "repaired by " + backend
			w.try(dualStack, plainCells)
			for _, old := range before {
				if newRuntime(t, "1.1.0", path(w.pod), encode(t, excludingAll), plugin.NewEntry(old, false)).check() == nil {
					t.Errorf("the rules of %s are still there", old)
				}
			}
		})
	}
}

// startPod starts a pod that is injected.
func (w *world) startPod(c node.Config, client *fake.Clientset, name string, netns ns.NetNS) {
	w.Helper()
	if err := w.start(c, client, name, netns, encode(w, plain)); err != nil {
		w.Fatal(err)
	}
}

// start does what a kubelet and a container runtime do: the pod is known, and its
// namespace gets a network by the plugins that are configured now. A pod without a
// spec is not injected.
func (w *world) start(c node.Config, client *fake.Clientset, name string, netns ns.NetNS, spec string) error {
	w.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Annotations: map[string]string{}}}
	if spec != "" {
		pod.Annotations[redirect.Annotation] = spec
	}
	if _, err := client.CoreV1().Pods("shop").Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		w.Fatal(err)
	}
	mounted := filepath.Join(c.NetnsDir, name)
	if err := os.WriteFile(mounted, nil, 0o444); err != nil {
		w.Fatal(err)
	}
	if err := unix.Mount(path(netns), mounted, "", unix.MS_BIND, ""); err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() {
		if err := unix.Unmount(mounted, unix.MNT_DETACH); err != nil {
			w.Error(err)
		}
	})
	return addByConfiguration(c, mounted, name, pod.Annotations)
}

// addByConfiguration has the plugins that a runtime finds configured now make the
// network of a pod.
func addByConfiguration(c node.Config, netns, name string, annotations map[string]string) error {
	files, err := libcni.ConfFiles(c.ConfDir, []string{".conflist"}) // sorted by name
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return errors.New("no network is configured")
	}
	list, err := libcni.NetworkConfFromFile(files[0])
	if err != nil {
		return err
	}
	_, err = libcni.NewCNIConfigWithCacheDir([]string{c.BinDir, bin}, c.CacheDir, nil).AddNetworkList(context.Background(), list, &libcni.RuntimeConf{
		ContainerID: "c-" + name, NetNS: netns, IfName: "eth0",
		Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", name}, {"K8S_POD_UID", "uid-" + name}},
		CapabilityArgs: map[string]any{plugin.AnnotationsCapability: annotations},
	})
	return err
}

// serveEnvoy answers on the proxy's port as the sidecar does.
func (w *world) serveEnvoy(nodeID string) {
	w.Helper()
	w.in(w.pod, func() error {
		for _, port := range []string{":10000", ":8900"} { // redirected connections, and /ready
			l, err := net.Listen("tcp", port)
			if err != nil {
				return err
			}
			s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, nodeID) })}
			w.Cleanup(func() { s.Close() })
			go func() { _ = s.Serve(l) }()
		}
		return nil
	})
}

// verifying is a traffic-verify that runs.
type verifying struct {
	*world
	cmd    *exec.Cmd
	stderr *bufio.Scanner
}

func (w *world) startVerify(nodeID string) verifying {
	w.Helper()
	cmd := exec.Command(filepath.Join(bin, "traffic-verify"), "-timeout=1m", "-termination-log=")
	cmd.Env = []string{"NODE_ID=" + nodeID, "POD_IPS=10.99.0.2,fd99::2"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65532, Gid: 65532}}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		w.Fatal(err)
	}
	w.in(w.pod, cmd.Start)
	w.Cleanup(func() { _ = cmd.Process.Kill() })
	return verifying{w, cmd, bufio.NewScanner(stderr)}
}

// line waits for the next line.
func (v verifying) line() string {
	v.Helper()
	if !v.stderr.Scan() {
		v.Fatalf("traffic-verify ended: %v", v.stderr.Err())
	}
	return v.stderr.Text()
}

// startAgent runs an agent until stop or the end of the test.
func startAgent(t *testing.T, c node.Config, client *fake.Clientset) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	var running sync.WaitGroup
	running.Go(func() {
		if err := node.New(c, client, log).Run(ctx); err != nil {
			t.Error(err)
		}
	})
	stop = func() { cancel(); running.Wait() }
	t.Cleanup(stop)
	return stop
}

// awaitEvent waits until the agent has told the object.
func awaitEvent(t *testing.T, client *fake.Clientset, namespace, object, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	w, err := client.EventsV1().Events(namespace).Watch(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	list, err := client.EventsV1().Events(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	seen := list.Items
	for {
		for _, e := range seen {
			if e.Regarding.Name == object && e.Reason == reason {
				return
			}
		}
		select {
		case <-ctx.Done():
			t.Fatalf("%s got no event %s", object, reason)
		case e := <-w.ResultChan():
			if event, ok := e.Object.(*eventsv1.Event); ok {
				seen = []eventsv1.Event{*event}
			}
		}
	}
}
