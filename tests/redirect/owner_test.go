package redirect_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// A network add-on that is not root's reads its configuration, and writes it, while the agent is on the node and after it has left.
func TestConfigurationStaysItsOwners(t *testing.T) {
	const owner, mode = 4711, 0o600
	config, client := oneNode(t), withDaemonSet()
	path := filepath.Join(config.ConfDir, "10-net.conflist")
	if err := os.Chown(path, owner, owner); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	look := func(when string, chained bool) {
		t.Helper()
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if is := info.Sys().(*syscall.Stat_t); is.Uid != owner || is.Gid != owner || info.Mode() != mode {
			t.Errorf("%s it is of %d:%d, mode %v", when, is.Uid, is.Gid, info.Mode())
		}
		text, err := os.ReadFile(path)
		if err != nil || strings.Contains(string(text), plugin.Type) != chained {
			t.Errorf("%s it is %s, %v", when, text, err)
		}
	}
	stop := startAgent(t, config, client)
	awaitAnswer(t, config, "/readyz", "ok")
	look("installed,", true)
	daemonSets := client.AppsV1().DaemonSets(config.DaemonSet.Namespace)
	if err := daemonSets.Delete(t.Context(), config.DaemonSet.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	stop()
	look("uninstalled,", false)
}
