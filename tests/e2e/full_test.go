package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fullNode has the node's CNI folders on a disk that is full when its network add-on writes its file anew.
func fullNode(t *testing.T, s *site, network []byte) {
	s.agentAway(t, true)
	s.onNode(t, `mount -t tmpfs -o size=64m tmpfs /mnt
		for dir in etc/cni/net.d opt/cni/bin; do
			mkdir -p /mnt/$dir
			cp -a /$dir/. /mnt/$dir
			mount --bind /mnt/$dir /$dir
		done`)
	if err := s.cluster.Restart(t.Context(), "containerd"); err != nil { // which watches the folder
		t.Fatal(err)
	}
	s.writeConflist(t, network)
	filler := filepath.Join(s.node, "mnt/filler")
	file, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for page := make([]byte, os.Getpagesize()); err == nil; {
		_, err = file.Write(page)
	}
	if closed := file.Close(); closed != nil || !errors.Is(err, unix.ENOSPC) {
		t.Fatalf("the disk is not full: %v, %v", err, closed)
	}
	s.agentAway(t, false)
	eventually(t, "no space left on device", func() string {
		log := s.kubectl(t, "logs", "-n", release, "-l", "app.kubernetes.io/name=traffic-node", "--ignore-errors", "--tail=-1")
		return regexp.MustCompile("no space left on device|$").FindString(log)
	})
	s.startPods(t, "full")
	s.ready(t, nil, "full-out", "full-in")
	s.managed(t, "full-in")
	if events := s.kubectl(t, "get", "events", "-n", "shop", "--field-selector=involvedObject.name=full-in"); !strings.Contains(events, "RedirectRepaired") {
		t.Errorf("the plugin redirected it, whose entry has no room: %s", events)
	}
	if unready := s.kubectl(t, "get", "daemonset", "-n", release, "traffic-node", "-o", "jsonpath={.status.numberUnavailable}"); unready != "1" {
		t.Errorf("%q agents say that they cannot do their work", unready)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.kubectl(t, "rollout", "status", "-n", release, "daemonset/traffic-node", "--timeout=180s")
	for name, text := range s.cniFiles(t) {
		if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".conflist") && !strings.Contains(text, `"traffic-cni"`) {
			t.Errorf("once there is room, %s is %q", name, text)
		}
	}
}

// crowdedNode has pods of others ask for all the processors that the node has to give when the agent has to start again: it comes
// before them, because pods that opted in wait for it.
func crowdedNode(t *testing.T, s *site) {
	s.kubectl(t, "create", "namespace", "crowd")
	for _, request := range []string{"1000m", "100m", "10m", "1m"} { // of each more than fit beside those before
		s.apply(t, strings.ReplaceAll(crowd, "REQUEST", request))
	}
	eventually(t, "Unschedulable", func() string {
		waiting := s.kubectl(t, "get", "pod", "-n", "crowd", "-l", "app=crowd-1m", "-o", `jsonpath={.items[*].status.conditions[?(@.status=="False")].reason}`)
		return regexp.MustCompile("Unschedulable|$").FindString(waiting)
	})
	s.kubectl(t, "rollout", "restart", "-n", release, "daemonset/traffic-node")
	s.kubectl(t, "rollout", "status", "-n", release, "daemonset/traffic-node", "--timeout=180s")
	s.kubectl(t, "delete", "namespace", "crowd")
}

const crowd = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: crowd-REQUEST, namespace: crowd}
spec:
  replicas: 60
  selector: {matchLabels: {app: crowd-REQUEST}}
  template:
    metadata: {labels: {app: crowd-REQUEST}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{name: pause, image: localhost:5000/pause:v1, resources: {requests: {cpu: REQUEST}}}]
`
