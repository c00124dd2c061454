package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

const (
	specValue = `{"version":1,"proxyUID":1337,"proxyPort":10000}`
	bridge    = "{\n  \"cniVersion\": \"1.1.0\",\n  \"name\": \"pods\",\n  \"plugins\": [\n    {\"type\": \"bridge\"}\n  ]\n}\n"
)

// kernel stands for the network namespaces of a node: by path, the rules that
// are in one.
type kernel struct {
	mu     sync.Mutex
	rules  map[string]string
	refuse error
}

func (k *kernel) in(path, name string, do func(apply.Backend, ns.NetNS) error) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, ok := k.rules[path]; !ok {
		return fmt.Errorf("%w: %s", apply.ErrGone, path)
	}
	return do(inKernel{k, path}, nil)
}

func (k *kernel) set(path, rules string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rules[path] = rules
}

func (k *kernel) get(path string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.rules[path]
}

func (k *kernel) fail(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = err
}

// inKernel is the back end in one namespace.
type inKernel struct {
	*kernel
	path string
}

func (k inKernel) Name() string         { return "nftables" }
func (k inKernel) Probe(ns.NetNS) error { return nil }
func (k inKernel) Check(_ ns.NetNS, s redirect.Spec) error {
	if k.rules[k.path] != redirect.Rules(s).String() {
		return fmt.Errorf("%w: there is no table", apply.ErrDiffers)
	}
	return nil
}

func (k inKernel) Apply(_ ns.NetNS, s redirect.Spec) error {
	if k.refuse == nil {
		k.rules[k.path] = redirect.Rules(s).String()
	}
	return k.refuse
}

func (k inKernel) Remove(ns.NetNS) error { delete(k.rules, k.path); return nil }

// testNode is a node with an agent on it.
type testNode struct {
	*testing.T
	config  Config
	client  *fake.Clientset
	kernel  *kernel
	resolve func(string) (string, error)
	agent   *Agent
	stop    func() error
}

func newNode(t *testing.T) *testNode {
	dir := t.TempDir()
	n := &testNode{
		T: t,
		config: Config{
			NodeName: "node-1", DaemonSet: types.NamespacedName{Namespace: "traffic-system", Name: "traffic-node"},
			ConfDir: filepath.Join(dir, "net.d"), BinDir: filepath.Join(dir, "bin"), CacheDir: filepath.Join(dir, "cache"),
			NetnsDir: "/run/netns", Plugin: filepath.Join(dir, "traffic-cni"), Backend: apply.Auto,
			VerifyInterval: time.Hour, Listen: "127.0.0.1:0",
		},
		client: fake.NewClientset(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "traffic-system", Name: "traffic-node"}},
			// A pod that did not opt in, as any node has.
			&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "dns", UID: "dns"},
				Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://0a"}}}}),
		kernel:  &kernel{rules: map[string]string{}},
		resolve: func(string) (string, error) { return "nftables", nil },
	}
	for _, d := range []string{n.config.ConfDir, n.config.BinDir, n.config.CacheDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, n.config.Plugin, []byte("the plugin"), 0o755)
	return n
}

// start runs the agent until stop or the end of the test.
func (n *testNode) start() {
	ctx, cancel := context.WithCancel(context.Background())
	n.agent = newAgent(n.config, n.client, slog.New(slog.NewTextHandler(n.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), n.kernel.in, func(name string) (string, error) { return n.resolve(name) })
	done := make(chan error, 1)
	go func() { done <- n.agent.Run(ctx) }()
	n.stop = sync.OnceValue(func() error { cancel(); return <-done })
	n.Cleanup(func() { _ = n.stop() })
}

// conflist writes the configuration of the cluster's network plugin.
func (n *testNode) conflist(name, data string) string {
	n.Helper()
	path := filepath.Join(n.config.ConfDir, name)
	write(n, path, []byte(data), 0o644)
	return path
}

// runPod creates a pod and its sandbox, whose network libcni sets up and
// remembers as it does for a runtime; no plugin of ours is called.
func (n *testNode) runPod(name string, annotations map[string]string) string {
	n.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Annotations: annotations},
		Spec: corev1.PodSpec{NodeName: "node-1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.0.2"}}
	if _, err := n.client.CoreV1().Pods("shop").Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		n.Fatal(err)
	}
	return n.sandbox(pod, "c-"+name)
}

func (n *testNode) sandbox(pod *corev1.Pod, container string) string {
	n.Helper()
	path := "/run/netns/" + container
	n.kernel.set(path, "")
	list, err := libcni.NetworkConfFromBytes([]byte(bridge))
	if err != nil {
		n.Fatal(err)
	}
	_, err = libcni.NewCNIConfigWithCacheDir(nil, n.config.CacheDir, noPlugins{}).AddNetworkList(context.Background(), list, &libcni.RuntimeConf{
		ContainerID: container, NetNS: "/var" + path, IfName: "eth0",
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name}, {"K8S_POD_UID", string(pod.UID)}},
	})
	if err != nil {
		n.Fatal(err)
	}
	return path
}

// noPlugins pretends to run the plugins of a list.
type noPlugins struct{ *version.PluginDecoder }

var _ invoke.Exec = noPlugins{}

func (noPlugins) ExecPlugin(context.Context, string, []byte, []string) ([]byte, error) {
	return []byte(`{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/24"}]}`), nil
}
func (noPlugins) FindInPath(name string, _ []string) (string, error) { return name, nil }

// await asks until ok, and fails after two seconds: what the agent is to notice
// it must notice in that time.
func (n *testNode) await(what string, ok func() bool) {
	n.Helper()
	for end := time.Now().Add(2 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			n.Fatalf("not within 2 s: %s; readiness: %v", what, n.get("/readyz"))
		}
	}
}

func (n *testNode) get(path string) string {
	w := httptest.NewRecorder()
	n.agent.handler().ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	body, _ := io.ReadAll(w.Body)
	return fmt.Sprintf("%d %s", w.Code, body)
}

func (n *testNode) awaitReady() {
	n.Helper()
	n.await("ready", func() bool { return n.get("/readyz") == "200 ok\n" })
}

func (n *testNode) awaitRedirected(path string) {
	n.Helper()
	want := redirect.Rules(redirect.Spec{Version: 1, ProxyUID: 1337, ProxyPort: 10000}).String()
	n.await(path+" redirected", func() bool { return n.kernel.get(path) == want })
}

// awaitEvent waits for an event on a pod.
func (n *testNode) awaitEvent(pod, reason, text string) {
	n.Helper()
	n.await(fmt.Sprintf("event %s on %s with %q", reason, pod, text), func() bool {
		list, err := n.client.EventsV1().Events("shop").List(context.Background(), metav1.ListOptions{})
		if err != nil {
			n.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Regarding.Name == pod && e.Reason == reason && strings.Contains(e.Note, text) {
				return true
			}
		}
		return false
	})
}

var injected = map[string]string{redirect.Annotation: specValue}

// From its start on, the agent keeps the runtime calling the plugin, whatever
// another program does to the files; and says when it does not.
func TestKeepsInstalled(t *testing.T) {
	n := newNode(t)
	n.start()
	n.await("waits for a network", func() bool { return strings.Contains(n.get("/readyz"), "has not written one") })
	list := n.conflist("10-net.conflist", bridge)
	n.awaitReady()
	installed := snapshot(t, n.config.ConfDir)
	if want := `{"type":"traffic-cni","capabilities":{"io.kubernetes.cri.pod-annotations":true},"backend":"nftables"}`; !strings.Contains(installed["10-net.conflist"], want) {
		t.Errorf("no entry with the back end that works:\n%s", installed["10-net.conflist"])
	}
	binary := filepath.Join(n.config.BinDir, plugin.Type)
	for name, damage := range map[string]func(){
		"conflist rewritten": func() { write(t, list, []byte(bridge), 0o644) },
		"conflist replaced": func() {
			write(t, list+".new", []byte(bridge), 0o644)
			if err := os.Rename(list+".new", list); err != nil {
				t.Error(err)
			}
		},
		"entry changed":  func() { write(t, list, []byte(strings.Replace(bridge, "\n  ]", `,{"type":"traffic-cni"}]`, 1)), 0o644) },
		"binary removed": func() { os.Remove(binary) },
		"binary changed": func() { write(t, binary, []byte("x"), 0o600) },
	} {
		damage()
		n.await("mended after "+name, func() bool {
			data, _ := os.ReadFile(list)
			conf, err := libcni.NetworkConfFromBytes(data)
			if err != nil || len(conf.Plugins) != 2 || conf.Plugins[1].Network.Type != plugin.Type || !conf.Plugins[1].Network.Capabilities[plugin.AnnotationsCapability] {
				return false
			}
			bin, _ := os.ReadFile(binary)
			return string(bin) == "the plugin" && isExecutable(binary)
		})
	}
	n.conflist("05-newer.conflist", strings.Replace(bridge, "pods", "newer", 1))
	n.await("chained into the newer file", func() bool {
		data, _ := os.ReadFile(filepath.Join(n.config.ConfDir, "05-newer.conflist"))
		return strings.Contains(string(data), plugin.Type)
	})
	n.awaitReady()
}

// A node on which no pod can be redirected must not look ready.
func TestNotReady(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	n.resolve = func(string) (string, error) { return "", errors.New("nf_tables is missing") }
	n.start()
	n.await("the reason shows", func() bool {
		return strings.Contains(n.get("/readyz"), "503 pods cannot be redirected on this node: nf_tables is missing")
	})
	if got := n.get("/metrics"); !strings.Contains(got, "traffic_node_ready 0") {
		t.Errorf("metrics: %s", got)
	}
	if got := n.get("/healthz"); got != "200 ok\n" {
		t.Errorf("healthz: %s", got)
	}
	if data, err := os.ReadFile(filepath.Join(n.config.ConfDir, "10-net.conflist")); err != nil || string(data) != bridge {
		t.Errorf("chained a plugin that cannot work: %s, %v", data, err)
	}
}

// A stuck loop must be restarted by the kubelet.
func TestStuckIsNotHealthy(t *testing.T) {
	var h health
	start := time.Now()
	h.begin(start)
	if err := h.live(start.Add(stuckAfter)); err != nil {
		t.Error(err)
	}
	if err := h.live(start.Add(stuckAfter + time.Second)); err == nil {
		t.Error("a pass that does not end is healthy")
	}
	h.end(nil)
	if err := h.live(start.Add(time.Hour)); err != nil {
		t.Error(err)
	}
}

// A pod that the plugin missed is redirected within two seconds and told so;
// others are left alone.
func TestRepairsPods(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	before := n.runPod("started-before", injected)
	n.start()
	n.awaitReady()
	n.awaitRedirected(before)

	other := n.runPod("not-injected", map[string]string{"a": "b"})
	after := n.runPod("started-after", injected)
	n.awaitRedirected(after)
	n.awaitEvent("started-after", reasonRepaired, "there is no table")
	if got := n.kernel.get(other); got != "" {
		t.Errorf("a pod that did not opt in has rules:\n%s", got)
	}
	n.await("counted", func() bool {
		m := n.get("/metrics")
		return strings.Contains(m, `traffic_node_repairs_total{result="repaired"} 2`) && strings.Contains(m, "traffic_node_injected_pods 2")
	})
}

// The pod may show up before or after its sandbox.
func TestRepairsWhicheverComesFirst(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	n.start()
	n.awaitReady()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "late", UID: "u1", Annotations: injected}}
	path := n.sandbox(pod, "c-late")
	n.await("the sandbox is known", func() bool {
		known, err := sandboxes(n.config.CacheDir)
		return err == nil && len(known) == 1
	})
	if _, err := n.client.CoreV1().Pods("shop").Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.awaitRedirected(path)
	// A new sandbox of the same pod, as after a reboot.
	n.awaitRedirected(n.sandbox(pod, "c-late-2"))
}

// After somebody rewrote the configuration every pod is looked at again.
func TestVerifiesAfterRewrite(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	path := n.runPod("web", injected)
	n.start()
	n.awaitRedirected(path)
	n.awaitReady()
	n.kernel.set(path, "")
	n.conflist("10-net.conflist", bridge)
	n.awaitRedirected(path)
}

// Time alone leads to a look at every pod.
func TestVerifiesAtIntervals(t *testing.T) {
	n := newNode(t)
	n.config.VerifyInterval = 50 * time.Millisecond
	n.conflist("10-net.conflist", bridge)
	path := n.runPod("web", injected)
	n.start()
	n.awaitRedirected(path)
	n.kernel.set(path, "somebody else's idea")
	n.awaitRedirected(path)
}

// What cannot be repaired is said, and tried again.
func TestRepairFails(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	n.kernel.fail(errors.New("operation not permitted"))
	path := n.runPod("web", injected)
	bad := n.runPod("bad", map[string]string{redirect.Annotation: `{"version":9}`})
	n.start()
	n.awaitEvent("web", reasonFailed, "operation not permitted")
	n.awaitEvent("bad", reasonInvalid, "version 9: this program knows version 1 only")
	n.awaitReady() // new pods would be redirected
	n.kernel.fail(nil)
	n.awaitRedirected(path)
	if got := n.kernel.get(bad); got != "" {
		t.Errorf("rules of a spec that cannot be read:\n%s", got)
	}
}

// Sandboxes of earlier pods, of earlier boots and of pods that are over are not
// touched, and are no failure.
func TestLeavesOthersAlone(t *testing.T) {
	n := newNode(t)
	earlier := n.sandbox(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "of an earlier pod"}}, "c-earlier")
	path := n.runPod("web", injected)
	n.sandbox(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "uid-web"}}, "c-boot-before")
	delete(n.kernel.rules, "/run/netns/c-boot-before")
	over := n.runPod("job", injected)
	pod, err := n.client.CoreV1().Pods("shop").Get(context.Background(), "job", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	pod.Status.Phase = corev1.PodSucceeded
	if _, err := n.client.CoreV1().Pods("shop").UpdateStatus(context.Background(), pod, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	a := newAgent(n.config, n.client, slog.New(slog.DiscardHandler), n.kernel.in, n.resolve)
	list, err := n.client.CoreV1().Pods("").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var pods []*corev1.Pod
	for i := range list.Items {
		pods = append(pods, &list.Items[i])
	}
	if err := a.repairer.pass(pods, "nftables", true); err != nil {
		t.Fatal(err)
	}
	if n.kernel.get(path) == "" || n.kernel.get(earlier) != "" || n.kernel.get(over) != "" {
		t.Errorf("rules: %v", n.kernel.rules)
	}
}

// A runtime whose namespaces the agent cannot find is named, not passed over.
func TestUnknownRuntime(t *testing.T) {
	for netns, want := range map[string]string{
		"/run/netns/x":     "/host/netns/x",
		"/var/run/netns/x": "/host/netns/x",
		"/host/netns/x":    "/host/netns/x",
		"/proc/7/ns/net":   "",
		"/run/netns/a/b":   "",
		"x":                "",
	} {
		got, err := sandbox{netns: netns}.path("/host/netns")
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s is %q, %v; want %q", netns, got, err, want)
		}
	}
}

// The informer keeps little of each pod: a node has hundreds, with megabytes of
// environment.
func TestTrim(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{redirect.Annotation: specValue, "other": "x"}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", ContainerID: "containerd://1"}}},
	}
	got, err := trim(pod)
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u", ResourceVersion: "7", Annotations: injected},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://1"}}},
	}
	if diff := cmp.Diff(any(want), got); diff != "" || err != nil {
		t.Errorf("%v -want +got:\n%s", err, diff)
	}
}

// The entry is what the plugin understands.
func TestEntryIsTheConfigurations(t *testing.T) {
	b, err := json.Marshal(plugin.NewEntry(apply.Auto, false))
	if err != nil || string(b) != e {
		t.Errorf("entry is %s, %v", b, err)
	}
}
