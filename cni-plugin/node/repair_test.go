package node

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

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

// The runtime sets loopback up first: repairing then would race with the plugin and tell users of a fault that is none.
func TestLoopbackIsNotTheNetwork(t *testing.T) {
	n := newNode(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "starting", UID: "u1"}}
	n.attach(pod, "c-starting", "lo")
	if known, err := sandboxes(n.config.CacheDir); err != nil || len(known) != 0 {
		t.Errorf("a pod with nothing but loopback is taken for started: %v, %v", known, err)
	}
	n.attach(pod, "c-starting", "eth0")
	if known, err := sandboxes(n.config.CacheDir); err != nil || len(known) != 1 {
		t.Errorf("a started pod is not known: %v, %v", known, err)
	}
}

// The first pod of a node, whose network makes the cache folder.
func TestRepairsTheFirstPod(t *testing.T) {
	n := newNode(t)
	n.conflist("10-net.conflist", bridge)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "first", UID: "u1", Annotations: injected}}
	if _, err := n.client.CoreV1().Pods("shop").Create(context.Background(), pod, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	n.start()
	n.awaitReady()
	n.awaitRedirected(n.sandbox(pod, "c-first"))
}

// A bad annotation is reported once, not at every event of the node.
func TestInvalidIsReportedOnce(t *testing.T) {
	n := newNode(t)
	a := newAgent(n.config, n.client, slog.New(slog.DiscardHandler), n.kernel.in, n.resolve)
	recorder := events.NewFakeRecorder(10)
	a.repairer.recorder = recorder
	pods := []*corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1", Annotations: map[string]string{redirect.Annotation: "{"}}}}
	for i := range 4 {
		if err := a.repairer.pass(pods, "nftables", i >= 2); err != nil {
			t.Fatal(err)
		}
	}
	pods[0].Annotations[redirect.Annotation] = "[" // another one
	if err := a.repairer.pass(pods, "nftables", false); err != nil {
		t.Fatal(err)
	}
	if got := len(recorder.Events); got != 2 {
		t.Errorf("%d events", got)
	}
	if err := a.repairer.pass(nil, "nftables", false); err != nil {
		t.Fatal(err)
	}
	if got := len(a.repairer.known.invalid); got != 0 {
		t.Errorf("remembers %d pods that are gone", got)
	}
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
	n.config.VerifyInterval = 20 * time.Millisecond
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
	n.kernel.set(path, "") // only a look at every pod finds this
	n.awaitRedirected(path)
	n.await("both repairs are said", func() bool { return n.times("web", reasonRepaired) == 2 })
	if got := n.times("bad", reasonInvalid); got != 1 {
		t.Errorf("said %d times what cannot be repaired", got)
	}
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

// What is left of the boot before, in libcni's cache, is no failure of the pod that has a new sandbox since.
func TestSandboxOfTheBootBeforeIsNotReported(t *testing.T) {
	n := newNode(t)
	a := newAgent(n.config, n.client, slog.New(slog.DiscardHandler), n.kernel.in, n.resolve)
	recorder := events.NewFakeRecorder(10)
	a.repairer.recorder = recorder
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "u1", Annotations: injected}}
	n.attach(pod, "c-before", "eth0")
	n.sandbox(pod, "c-now")
	if err := a.repairer.pass([]*corev1.Pod{pod}, "nftables", true); err != nil {
		t.Errorf("the pass is to be done again: %v", err)
	}
	if event := <-recorder.Events; len(recorder.Events) > 0 || !strings.Contains(event, reasonRepaired) {
		t.Errorf("%d more events after %q", len(recorder.Events), event)
	}
}
