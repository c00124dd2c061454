package e2e

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var beforeCommit = flag.String("before", "", "the commit whose chart and images TestInstallation begins with (default: these sources under another number)")

const chart = "charts/kubernetes-traffic-manager"

// A version is a chart, and a values file that names its images.
type version struct {
	chart, images string
	// older is one whose chart may not know every value of this one.
	older bool
}

func (s *site) thisVersion() version { return version{chart: chart, images: s.images} }

// versionBefore is these sources under another number, so that every pod of the release has to be replaced. With -before it is
// what older sources make.
func (s *site) versionBefore(t *testing.T) version {
	t.Helper()
	folder := t.TempDir()
	if *beforeCommit == "" {
		s.helm(t, "package", chart, "--version=0.0.9", "--app-version=0.0.9", "--destination="+folder)
		images := s.pushImages(t, "../..", "-version=0.0.9", "traffic-control", "traffic-webhook", "traffic-node", "traffic-verify")
		return version{chart: filepath.Join(folder, "kubernetes-traffic-manager-0.0.9.tgz"), images: images}
	}
	extract := exec.CommandContext(t.Context(), "sh", "-c", `git -C ../.. archive "$0" | tar -x -C "$1"`, *beforeCommit, folder)
	output(t, extract)
	return version{chart: filepath.Join(folder, chart), images: s.pushImages(t, folder, "-version=before"), older: true}
}

// upgrades goes over to this version, back, and to this version again, under load: no request fails and no pod is refused,
// and all pods, even one that was injected long before, follow whichever version there is.
func upgrades(t *testing.T, s *site, now version) {
	connections := 1
	if *beforeCommit != "" {
		connections = 4 // an older version makes other listeners: each of three changes ends connections that are told so
	}
	traffic, pods := s.startTraffic(t, connections), watchFates(s.client, "shop")
	first := s.programs(t)
	s.follow(t)
	s.install(t, now, withZipkin)
	second := s.programs(t)
	s.follow(t)
	s.helm(t, "rollback", "traffic", "1", "-n", release, "--wait", "--timeout=3m")
	if got := s.programs(t); got != first || got == second {
		t.Errorf("the programs were %s, then %s, and after the rollback they are %s", first, second, got)
	}
	s.follow(t)
	s.install(t, now, withZipkin)
	s.follow(t)
	pods.end(t, "i+")
	traffic.end(t)
}

// programs are the images of the release's workloads.
func (s *site) programs(t *testing.T) string {
	t.Helper()
	return s.kubectl(t, "get", "deployment,daemonset", "-n", release, "-o", "jsonpath={.items[*].spec.template.spec.containers[*].image}")
}

// injectedBefore are pods of the shop: one that the version before injected, and one that an even older one did.
var injectedBefore = []string{"client", "older"}

// follow changes a label and waits for pods that were injected before to follow.
func (s *site) follow(t *testing.T) {
	t.Helper()
	for _, change := range []struct{ label, status string }{{"traffic.port.82=http", "200"}, {"traffic.port.82-", "404"}} {
		s.kubectl(t, "label", "service", "-n", "shop", "web", change.label)
		for _, pod := range injectedBefore {
			eventually(t, change.status, func() string { return s.status(t, "shop", pod, "http://web:82/health") })
		}
	}
}

// olderPod is a pod as the first webhooks injected it: Envoy as it was started then, with the redirect spec of then. Today's webhook
// leaves it as it is.
func olderPod(t *testing.T, s *site) string {
	t.Helper()
	manifest, err := os.ReadFile("testdata/older.yaml")
	if err != nil {
		t.Fatal(err)
	}
	webhook, err := s.client.CoreV1().Secrets(release).Get(t.Context(), "traffic-webhook-tls", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(string(manifest), "TRUSTED_CA", strings.ReplaceAll(string(webhook.Data["ca.crt"]), "\n", `\n`))
}

// traffic is what pods that were injected before send to Service echo.
type traffic struct {
	loads []*load
	held  []*held
}

// startTraffic begins with it. A connection to an http port may have to be made so often.
func (s *site) startTraffic(t *testing.T, connections int) *traffic {
	t.Helper()
	echo := s.kubectl(t, "get", "service", "-n", "shop", "echo", "-o", "jsonpath={.spec.clusterIP}")
	flows := &traffic{}
	for _, pod := range injectedBefore {
		c := sender{name: pod + ": ", url: "http://" + echo + "/", host: "echo", kept: 50, fresh: 25, dial: dialer(s.network(t, pod))}
		flows.loads = append(flows.loads, c.start()...)
		for range 3 {
			flows.held = append(flows.held, c.hold("a connection to an http port", echo+":80", connections), c.hold("a connection to a tcp port", echo+":81", 1))
		}
	}
	return flows
}

// end checks that every request was answered, and that nobody had to connect more often than that.
func (f *traffic) end(t *testing.T) {
	t.Helper()
	for _, l := range f.loads {
		l.stop(t)
	}
	for _, h := range f.held {
		h.end(t)
	}
}

// network is where a pod of the shop has its network namespace, as this machine sees it.
func (s *site) network(t *testing.T, name string) string {
	t.Helper()
	pids, err := processes(s.containerID(t, name, "app"))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("/proc/%d/ns/net", pids[0])
}

// containerID names a container of a pod of the shop.
func (s *site) containerID(t *testing.T, name, container string) string {
	t.Helper()
	pod, err := s.client.CoreV1().Pods("shop").Get(t.Context(), name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	all := slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses)
	i := slices.IndexFunc(all, func(c corev1.ContainerStatus) bool { return c.Name == container })
	if i < 0 {
		t.Fatalf("pod %s has no container %s", name, container)
	}
	return strings.TrimPrefix(all[i].ContainerID, "containerd://")
}
