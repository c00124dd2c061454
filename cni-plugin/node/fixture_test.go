package node

import (
	"context"
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
	"sync/atomic"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/invoke"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
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
	forbid  atomic.Bool   // the API server refuses to show the DaemonSet
	list    chan struct{} // the API server lists pods once it is closed
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
			VerifyInterval: time.Hour, Listen: "[127.0.0.1]:0", // with the brackets that the chart writes
		},
		client: fake.NewClientset(&appsv1.DaemonSet{ObjectMeta: metav1.ObjectMeta{Namespace: "traffic-system", Name: "traffic-node"}},
			// A pod that did not opt in, as any node has.
			&corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "dns", UID: "dns"},
				Status:     corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://0a"}}},
			}),
		kernel:  &kernel{rules: map[string]string{}},
		list:    make(chan struct{}),
		resolve: func(string) (string, error) { return "nftables", nil },
	}
	for _, d := range []string{n.config.ConfDir, n.config.BinDir, n.config.CacheDir} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	n.client.PrependReactor("get", "daemonsets", func(clienttesting.Action) (bool, runtime.Object, error) {
		return n.forbid.Load(), nil, apierrors.NewForbidden(schema.GroupResource{Resource: "daemonsets"}, "traffic-node", errors.New("no role"))
	})
	n.client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		<-n.list
		return false, nil, nil
	})
	close(n.list)
	write(t, n.config.Plugin, []byte("the plugin"), 0o755)
	return n
}

// start runs the agent until stop or the end of the test.
func (n *testNode) start() { n.begin(func(*Agent) {}) }

// begin starts an agent that is set up differently.
func (n *testNode) begin(setUp func(*Agent)) {
	ctx, cancel := context.WithCancel(context.Background())
	n.agent = newAgent(n.config, n.client, slog.New(slog.NewTextHandler(n.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})), n.kernel.in, func(name string) (string, error) { return n.resolve(name) })
	setUp(n.agent)
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
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, UID: types.UID("uid-" + name), Annotations: annotations},
		Spec:       corev1.PodSpec{NodeName: "node-1"}, Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.1.0.2"},
	}
	if _, err := n.client.CoreV1().Pods("shop").Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		n.Fatal(err)
	}
	return n.sandbox(pod, "c-"+name)
}

func (n *testNode) sandbox(pod *corev1.Pod, container string) string {
	n.Helper()
	path := "/run/netns/" + container
	n.kernel.set(path, "")
	n.attach(pod, container, "eth0")
	return path
}

// attach has libcni remember an interface of a pod, as it does when all plugins of the network have run.
func (n *testNode) attach(pod *corev1.Pod, container, ifName string) {
	n.Helper()
	list, err := libcni.NetworkConfFromBytes([]byte(bridge))
	if err != nil {
		n.Fatal(err)
	}
	_, err = libcni.NewCNIConfigWithCacheDir(nil, n.config.CacheDir, noPlugins{}).AddNetworkList(context.Background(), list, &libcni.RuntimeConf{
		ContainerID: container, NetNS: "/var/run/netns/" + container, IfName: ifName,
		Args: [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", pod.Namespace}, {"K8S_POD_NAME", pod.Name}, {"K8S_POD_UID", string(pod.UID)}},
	})
	if err != nil {
		n.Fatal(err)
	}
}

// noPlugins pretends to run the plugins of a list.
type noPlugins struct{ *version.PluginDecoder }

var _ invoke.Exec = noPlugins{}

func (noPlugins) ExecPlugin(context.Context, string, []byte, []string) ([]byte, error) {
	return []byte(`{"cniVersion":"1.1.0","ips":[{"address":"10.1.0.2/24"}]}`), nil
}
func (noPlugins) FindInPath(name string, _ []string) (string, error) { return name, nil }

// await asks until ok, and fails when that never comes, which is after a time that
// is long for any machine.
func (n *testNode) await(what string, ok func() bool) {
	n.Helper()
	const never = 10 * time.Second
	for end := time.Now().Add(never); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			n.Fatalf("not within %s: %s; readiness: %v", never, what, n.get("/readyz"))
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
	n.awaitEventOn("shop", pod, reason, text)
}

// awaitEventOn waits for an event on an object; those on nodes are in the
// namespace default.
func (n *testNode) awaitEventOn(namespace, object, reason, text string) {
	n.Helper()
	n.await(fmt.Sprintf("event %s on %s with %q", reason, object, text), func() bool {
		list, err := n.client.EventsV1().Events(namespace).List(context.Background(), metav1.ListOptions{})
		if err != nil {
			n.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Regarding.Name == object && e.Reason == reason && strings.Contains(e.Note, text) {
				return true
			}
		}
		return false
	})
}

// times counts the events on a pod, those too that the API server holds as one.
func (n *testNode) times(pod, reason string) int {
	n.Helper()
	list, err := n.client.EventsV1().Events("shop").List(context.Background(), metav1.ListOptions{})
	if err != nil {
		n.Fatal(err)
	}
	count := 0
	for _, e := range list.Items {
		if e.Regarding.Name != pod || e.Reason != reason {
			continue
		}
		count++
		if e.Series != nil {
			count += int(e.Series.Count) - 1
		}
	}
	return count
}

var injected = map[string]string{redirect.Annotation: specValue}
