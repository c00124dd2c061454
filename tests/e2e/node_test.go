package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// startPods starts a pair of pods that ask a closed port of the shop without end: NAME-in, which is injected, and NAME-out. They
// write the answers down: 404 is the sidecar's, and anything else would have gone around it.
func (s *site) startPods(t *testing.T, names ...string) {
	t.Helper()
	address := s.kubectl(t, "get", "service", "-n", "shop", "web", "-o", "jsonpath={.spec.clusterIP}")
	for _, name := range names {
		s.apply(t, strings.NewReplacer("NAME", name, "ADDRESS", address).Replace(pair))
	}
}

const pair = `
apiVersion: v1
kind: Pod
metadata: {name: NAME-in, namespace: shop, labels: {traffic.envoy.enabled: "true"}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: localhost:5000/curl
    command: [sh, -c, 'while :; do curl -s -m 10 -o /dev/null -w "%{http_code}\n" http://ADDRESS:82/health; sleep 0.1; done']
---
apiVersion: v1
kind: Pod
metadata: {name: NAME-out, namespace: shop}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: app
    image: localhost:5000/curl
    command: [sh, -c, 'while :; do curl -s -m 10 -o /dev/null -w "%{http_code}\n" http://ADDRESS:82/health; sleep 0.1; done']
`

// ready waits until the pods are ready in other containers than those that are in before, by pod.
func (s *site) ready(t *testing.T, before map[string]string, pods ...string) {
	t.Helper()
	for _, pod := range pods {
		eventually(t, pod+" is ready", func() string {
			app, err := s.app(t, pod)
			if err != nil || !app.Ready || app.ContainerID == before[pod] {
				return fmt.Sprintf("%s: ready %t in %q, %v", pod, app.Ready, app.ContainerID, err)
			}
			return pod + " is ready"
		})
	}
}

// containerIDs are the pods' containers app, by pod.
func (s *site) containerIDs(t *testing.T, pods ...string) map[string]string {
	t.Helper()
	ids := map[string]string{}
	for _, pod := range pods {
		app, err := s.app(t, pod)
		if err != nil {
			t.Fatal(err)
		}
		ids[pod] = app.ContainerID
	}
	return ids
}

// app is the status of a pod's container app, which is its only one, once the kubelet has written one.
func (s *site) app(t *testing.T, pod string) (corev1.ContainerStatus, error) {
	t.Helper()
	found, err := s.client.CoreV1().Pods("shop").Get(t.Context(), pod, metav1.GetOptions{})
	if err != nil || len(found.Status.ContainerStatuses) == 0 {
		return corev1.ContainerStatus{}, err
	}
	return found.Status.ContainerStatuses[0], nil
}

// managed checks all that the app of an injected pod got, since its container began, and waits for the first of it.
func (s *site) managed(t *testing.T, pods ...string) {
	t.Helper()
	for _, pod := range pods {
		var log string
		eventually(t, "answers", func() string {
			if log = s.kubectl(t, "logs", "-n", "shop", pod, "-c", "app"); log == "" {
				return "none"
			}
			return "answers"
		})
		if others := strings.TrimSpace(strings.ReplaceAll("\n"+log+"\n", "\n404", "")); others != "" {
			t.Errorf("%s got other answers than those of its Envoy: %q", pod, others)
		}
	}
}

// waits checks that an injected pod waits in traffic-verify, says why, and has run nothing of its own.
func (s *site) waits(t *testing.T, pod string) {
	t.Helper()
	eventually(t, "traffic-verify", func() string {
		running := s.kubectl(t, "get", "pod", "-n", "shop", pod, "-o", `jsonpath={range .status.initContainerStatuses[?(@.state.running)]}{.name} {end}`)
		return strings.TrimSpace(strings.ReplaceAll(running, "traffic-envoy", ""))
	})
	eventually(t, "it says so", func() string {
		log := s.kubectl(t, "logs", "-n", "shop", pod, "-c", "traffic-verify")
		if strings.Contains(log, "the node agent traffic-node repairs pods that started without the redirect") {
			return "it says so"
		}
		return log
	})
	if app, err := s.app(t, pod); err != nil || app.State.Running != nil {
		t.Errorf("%s runs before it is redirected: %v, %v", pod, app.State.Running, err)
	}
}

// agentAway takes the agent from the node without an uninstall, and back.
func (s *site) agentAway(t *testing.T, away bool) {
	t.Helper()
	where := "null"
	if away {
		where = `"true"`
	}
	s.kubectl(t, "patch", "daemonset", "-n", release, "traffic-node", "-p", `{"spec":{"template":{"spec":{"nodeSelector":{"traffic.test/nowhere":`+where+`}}}}}`)
	if away {
		s.kubectl(t, "wait", "-n", release, "--for=delete", "pod", "-l", "app.kubernetes.io/name=traffic-node", "--timeout=180s")
	}
}

// reboot cuts the node's power. Its network add-on writes its file anew before anything of ours runs, and the agent comes late;
// network is that file.
func reboot(t *testing.T, s *site, network []byte) {
	s.startPods(t, "boot")
	s.ready(t, nil, "boot-in", "boot-out")
	s.agentAway(t, true)
	before := s.containerIDs(t, "boot-in", "boot-out")
	s.reboot(t)
	s.ready(t, before, "boot-out", "boot-in") // by the plugin alone
	s.managed(t, "boot-in")
	s.agentAway(t, false)
	s.kubectl(t, "rollout", "status", "-n", release, "daemonset/traffic-node", "--timeout=180s")

	s.agentAway(t, true)
	s.writeConflist(t, network)
	before = s.containerIDs(t, "boot-in", "boot-out", "client")
	s.reboot(t)
	s.ready(t, before, "boot-out")
	s.waits(t, "boot-in")
	s.agentAway(t, false)
	s.ready(t, before, "boot-in", "client")
	s.managed(t, "boot-in")
	s.kubectl(t, "rollout", "status", "-n", release, "daemonset/traffic-node", "--timeout=180s")
	s.kubectl(t, "rollout", "status", "-n", release, "deployment/traffic-webhook", "--timeout=180s")
}

func (s *site) reboot(t *testing.T) {
	t.Helper()
	if err := s.cluster.Reboot(t.Context()); err != nil {
		t.Fatal(err)
	}
	var err error
	if s.node, err = s.cluster.Root(); err != nil {
		t.Fatal(err)
	}
}

// onNode runs a script of the shell among the node's files.
func (s *site) onNode(t *testing.T, script string) {
	t.Helper()
	output(t, exec.CommandContext(t.Context(), "nsenter", "--mount="+filepath.Join(filepath.Dir(s.node), "ns/mnt"), "sh", "-ec", script))
}

// rightsFirst takes the agent's rights away before the agent, as an uninstall by hand may.
func rightsFirst(t *testing.T, s *site, before map[string]string) {
	s.kubectl(t, "delete", "clusterrolebinding", "traffic-node")
	s.kubectl(t, "delete", "-n", release, "rolebinding/traffic-node", "serviceaccount/traffic-node")
	s.startPods(t, "norights")
	s.ready(t, nil, "norights-in", "norights-out")
	s.managed(t, "norights-in")
	s.kubectl(t, "delete", "daemonset", "-n", release, "traffic-node", "--wait=false")
	s.cleaned(t, before)
	s.startPods(t, "noagent")
	s.waits(t, "noagent-in")
	s.ready(t, nil, "noagent-out")
	s.managed(t, "norights-in")
}

// cleaned waits until the node's CNI files are what they were before, and sees to it that they never name a plugin that is gone.
func (s *site) cleaned(t *testing.T, before map[string]string) {
	t.Helper()
	var diff string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		now := s.cniFiles(t)
		if _, there := now["opt/cni/bin/traffic-cni"]; !there && names(now, `"traffic-cni"`) {
			t.Fatal("the CNI configuration names a plugin that is gone")
		}
		if diff = cmp.Diff(before, now); diff == "" {
			return
		}
	}
	t.Fatalf("the node's CNI files, before the installation and a minute after the uninstall began (-before +after):\n%s", diff)
}

func names(files map[string]string, what string) bool {
	for _, text := range files {
		if strings.Contains(text, what) {
			return true
		}
	}
	return false
}
