package node

import (
	"fmt"
	"path/filepath"

	"github.com/containernetworking/cni/libcni"
	"k8s.io/apimachinery/pkg/types"
)

// sandbox is what a container runtime made for a pod, as libcni's result cache
// remembers it. A pod has several over time, and those of before linger when a
// node was not stopped in order.
type sandbox struct {
	containerID string
	netns       string // path, in the mounts of the container runtime
	uid         types.UID
}

// sandboxes reads libcni's cache: every sandbox that has a network, by pod.
// Files that are being written are left out; their next event comes.
func sandboxes(cacheDir string) (map[types.NamespacedName][]sandbox, error) {
	attachments, err := libcni.NewCNIConfigWithCacheDir(nil, cacheDir, nil).GetCachedAttachments("")
	if err != nil {
		return nil, fmt.Errorf("read the CNI result cache: %w", err)
	}
	byPod := map[types.NamespacedName][]sandbox{}
	seen := map[sandbox]bool{}
	for _, a := range attachments {
		args := map[string]string{}
		for _, pair := range a.CniArgs {
			args[pair[0]] = pair[1]
		}
		pod := types.NamespacedName{Namespace: args["K8S_POD_NAMESPACE"], Name: args["K8S_POD_NAME"]}
		s := sandbox{containerID: a.ContainerID, netns: a.NetNS, uid: types.UID(args["K8S_POD_UID"])}
		// The runtime's loopback network is there before ours: its entry does not say that the plugin has run. Further
		// interfaces have entries of their own.
		if pod.Name == "" || s.netns == "" || a.IfName == "lo" || seen[s] {
			continue
		}
		seen[s] = true
		byPod[pod] = append(byPod[pod], s)
	}
	return byPod, nil
}

// path is where this program finds the sandbox's network namespace when the
// runtime mounts it in the folder that appears here as netnsDir.
func (s sandbox) path(netnsDir string) (string, error) {
	switch filepath.Dir(s.netns) {
	case "/run/netns", "/var/run/netns", netnsDir:
		return filepath.Join(netnsDir, filepath.Base(s.netns)), nil
	}
	return "", fmt.Errorf("network namespace %s of sandbox %s is not in /run/netns: this container runtime is not supported", s.netns, s.containerID)
}
