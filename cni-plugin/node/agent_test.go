package node

import (
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/libcni"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// From its start on, the agent keeps the runtime calling the plugin, whatever
// another program does to the files; and says when it does not.
func TestKeepsInstalled(t *testing.T) {
	n := newNode(t)
	leftover := filepath.Join(n.config.ConfDir, ".traffic-cni-1.tmp")
	write(t, leftover, []byte("{"), 0o600)
	n.start()
	n.await("removes what an interrupted write left", func() bool { _, err := os.Stat(leftover); return errors.Is(err, fs.ErrNotExist) })
	n.await("waits for a network", func() bool { return strings.Contains(n.get("/readyz"), "has not written one") })
	list := n.conflist("10-net.conflist", bridge)
	n.awaitReady()
	installed := snapshot(t, n.config.ConfDir)
	if want := `{"type":"traffic-cni","capabilities":{"io.kubernetes.cri.pod-annotations":true},"backend":"nftables","boot":"` + bootID() + `"}`; !strings.Contains(installed["10-net.conflist"], want) {
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

// An agent that does not know its pods cannot repair them, and is not ready; it
// installs the plugin all the same, as a node that boots without an API server
// needs it.
func TestWithoutAPIServer(t *testing.T) {
	n := newNode(t)
	n.list = make(chan struct{})
	n.conflist("10-net.conflist", bridge)
	n.start()
	n.await("installed", func() bool {
		data, err := os.ReadFile(filepath.Join(n.config.ConfDir, "10-net.conflist"))
		return err == nil && strings.Contains(string(data), plugin.Type)
	})
	n.await("the reason shows", func() bool { return n.get("/readyz") == "503 the pods of this node are not listed yet\n" })
	// The files that the first pass wrote lead to a second one; then all is quiet.
	n.await("quiet", func() bool { return strings.Contains(n.get("/metrics"), "traffic_node_pass_seconds_count 2") })
	close(n.list)
	n.awaitReady()
}

// A client that never ends its request cannot hold up the agent, which has to be
// gone before the kubelet kills it.
func TestStopsWhileAsked(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(asked); <-answer }))
	defer server.Close()
	defer close(answer)
	failed := make(chan error, 1)
	go func() {
		response, err := http.Get(server.URL)
		if err == nil {
			response.Body.Close()
		}
		failed <- err
	}()
	<-asked
	stopped := make(chan error, 1)
	go func() { stopped <- shutdown(server.Config, time.Millisecond) }()
	select {
	case err := <-stopped:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("waits for the client")
	}
	if err := <-failed; err == nil {
		t.Error("an answer that was never given")
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

// The informer keeps little of each pod: a node has hundreds, with megabytes of
// environment.
func TestTrim(t *testing.T) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "n", Name: "p", UID: "u", ResourceVersion: "7", Labels: map[string]string{"a": "b"},
			Annotations: map[string]string{redirect.Annotation: specValue, "other": "x"},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c"}}},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c", ContainerID: "containerd://1"}},
		},
	}
	got, err := trim(pod)
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "n", Name: "p", UID: "u", ResourceVersion: "7", Annotations: injected},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1",
			ContainerStatuses: []corev1.ContainerStatus{{ContainerID: "containerd://1"}},
		},
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
