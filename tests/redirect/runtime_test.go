package redirect_test

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/containernetworking/cni/libcni"
	"github.com/containernetworking/cni/pkg/types"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// networkPlugin comes before ours in a conflist; it makes no network.
const networkPlugin = "test-network"

// runtime runs plugins as containerd does, by libcni.
type runtime struct {
	*libcni.CNIConfig
	list *libcni.NetworkConfigList
	rt   *libcni.RuntimeConf
}

// newRuntime chains ours after the network plugin, with the spec in the pod's
// annotations unless it is empty.
func newRuntime(t testing.TB, cniVersion, netns, spec string, entry plugin.Entry) runtime {
	t.Helper()
	conf, err := json.Marshal(map[string]any{
		"cniVersion": cniVersion, "name": "pods",
		"plugins": []any{
			map[string]any{"type": networkPlugin, "result": json.RawMessage(result(cniVersion))},
			entry,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	list, err := libcni.NetworkConfFromBytes(conf)
	if err != nil {
		t.Fatal(err)
	}
	annotations := map[string]string{"kubernetes.io/config.seen": "today"}
	if spec != "" {
		annotations[redirect.Annotation] = spec
	}
	return runtime{
		CNIConfig: libcni.NewCNIConfigWithCacheDir([]string{bin}, t.TempDir(), nil),
		list:      list,
		rt: &libcni.RuntimeConf{
			ContainerID: "c1", NetNS: netns, IfName: "eth0",
			Args:           [][2]string{{"IgnoreUnknown", "1"}, {"K8S_POD_NAMESPACE", "shop"}, {"K8S_POD_NAME", "web-0"}, {"K8S_POD_INFRA_CONTAINER_ID", "c1"}, {"K8S_POD_UID", "u1"}},
			CapabilityArgs: map[string]any{plugin.AnnotationsCapability: annotations},
		},
	}
}

// result is what a network plugin prints in a version of the specification.
func result(cniVersion string) string {
	if cniVersion < "1.0.0" {
		return fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"version":"4","interface":0,"address":"10.99.0.2/24","gateway":"10.99.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}`, cniVersion)
	}
	return fmt.Sprintf(`{"cniVersion":%q,"interfaces":[{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"interface":0,"address":"10.99.0.2/24","gateway":"10.99.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{}}`, cniVersion)
}

func (r runtime) add() (types.Result, error) {
	return r.AddNetworkList(context.Background(), r.list, r.rt)
}

func (r runtime) check() error { return r.CheckNetworkList(context.Background(), r.list, r.rt) }

func (r runtime) del() error { return r.DelNetworkList(context.Background(), r.list, r.rt) }

func (r runtime) mustAdd(t testing.TB) {
	t.Helper()
	if _, err := r.add(); err != nil {
		t.Fatal(err)
	}
}

func (r runtime) mustDel(t testing.TB) {
	t.Helper()
	if err := r.del(); err != nil {
		t.Fatal(err)
	}
}

func encode(t testing.TB, s redirect.Spec) string {
	t.Helper()
	value, err := redirect.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
