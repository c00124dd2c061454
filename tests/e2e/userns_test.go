package e2e

import (
	"os/exec"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/node"
)

// userNamespaces runs pods with a user namespace of their own, which the node can from its next start on: whose users the rules
// name are others outside.
func userNamespaces(t *testing.T, s *site) {
	if err := s.cluster.Runc(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := s.running(t)
	s.reboot(t)
	eventually(t, "all run again", func() string {
		for _, pod := range s.pods(t) {
			if id := container(pod); !isReady(&pod) || before[id] {
				return pod.Name + " is not ready in another container than " + id
			}
		}
		return "all run again"
	})
	address := s.kubectl(t, "get", "service", "-n", "shop", "web", "-o", "jsonpath={.spec.clusterIP}")
	own := strings.ReplaceAll(pair, "spec:\n", "spec:\n  hostUsers: false\n  runtimeClassName: "+node.NewerRunc+"\n")
	s.apply(t, "{apiVersion: node.k8s.io/v1, kind: RuntimeClass, metadata: {name: "+node.NewerRunc+"}, handler: "+node.NewerRunc+"}")
	s.apply(t, strings.NewReplacer("NAME", "users", "ADDRESS", address).Replace(own))
	s.ready(t, nil, "users-out", "users-in")
	for _, pod := range []string{"users-out", "users-in"} {
		if users := strings.Fields(s.kubectl(t, "exec", "-n", "shop", pod, "-c", "app", "--", "cat", "/proc/self/uid_map")); len(users) < 2 || users[1] == "0" {
			t.Errorf("%s has no user namespace of its own: %v", pod, users)
		}
	}
	s.managed(t, "users-in")
	s.gets(t, "users-out", map[string]string{"http://web:82/health": "200"})

	s.agentAway(t, true)
	output(t, exec.CommandContext(t.Context(), "nsenter", "--net="+s.network(t, "users-in"), "nft", "flush", "ruleset"))
	s.gets(t, "users-in", map[string]string{"http://web:82/health": "200"}) // nothing redirects it
	s.agentAway(t, false)
	eventually(t, "404", func() string { return s.status(t, "shop", "users-in", "http://web:82/health") })
}

// running are the containers of the release's pods.
func (s *site) running(t *testing.T) map[string]bool {
	t.Helper()
	ids := map[string]bool{}
	for _, pod := range s.pods(t) {
		ids[container(pod)] = true
	}
	return ids
}

// container is the first of a pod, empty before there is one.
func container(pod corev1.Pod) string {
	if len(pod.Status.ContainerStatuses) == 0 {
		return ""
	}
	return pod.Status.ContainerStatuses[0].ContainerID
}
