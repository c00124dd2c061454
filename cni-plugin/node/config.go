package node

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// Config is what an Agent is told.
type Config struct {
	NodeName  string               // of the node it runs on
	DaemonSet types.NamespacedName // that runs it
	ConfDir   string               // of the container runtime: CNI configuration
	BinDir    string               // of the container runtime: CNI plugins
	CacheDir  string               // of libcni; its results/ maps pods to network namespaces
	NetnsDir  string               // where network namespaces are mounted
	HostRoot  string               // the node's file system, for back ends that run its programs; empty for this program's own
	Plugin    string               // the binary to install
	Backend   string               // one of apply.Names
	// StrictStatus lets the whole node be NotReady when pods cannot be redirected.
	StrictStatus   bool
	VerifyInterval time.Duration // between two looks at every injected pod; more than 0
	UninstallWait  time.Duration // between removing the entry and the binary; 0 or more
	// Service is the cluster IP and port of a Service, to find out what becomes of connections to it; not valid for none.
	Service netip.AddrPort
	// CiliumNamespace is where Cilium's ConfigMap is; empty for not to read it.
	CiliumNamespace string

	Listen     string // address of health, readiness and metrics
	LogLevel   slog.Level
	Kubeconfig string // empty inside a cluster
}

// ParseFlags reads the command line of traffic-node, without the program's name.
func ParseFlags(args []string, usage io.Writer) (Config, error) {
	var c Config
	var daemonSet string
	f := flag.NewFlagSet("traffic-node", flag.ContinueOnError)
	f.SetOutput(usage)
	f.StringVar(&c.NodeName, "node-name", "", "name of the node it runs on; required")
	f.StringVar(&daemonSet, "daemonset", "", "<namespace>/<name> of the DaemonSet that runs it; required")
	f.StringVar(&c.ConfDir, "cni-conf-dir", "/etc/cni/net.d", "CNI configuration folder of the container runtime")
	f.StringVar(&c.BinDir, "cni-bin-dir", "/opt/cni/bin", "CNI plugin folder of the container runtime")
	f.StringVar(&c.CacheDir, "cni-cache-dir", "/var/lib/cni", "cache folder of libcni")
	f.StringVar(&c.NetnsDir, "netns-dir", "/run/netns", "folder of mounted network namespaces")
	f.StringVar(&c.HostRoot, "host-root", "", "folder with the node's file system, whose iptables is run where nftables does not do; empty for this program's own")
	f.StringVar(&c.Plugin, "plugin", besideExecutable(plugin.Type), "plugin binary to install")
	f.StringVar(&c.Backend, "backend", apply.Auto, "how rules are written: "+strings.Join(apply.Names(), ", "))
	f.BoolVar(&c.StrictStatus, "strict-status", false, "let the node be NotReady when pods cannot be redirected")
	f.DurationVar(&c.VerifyInterval, "verify-interval", time.Minute, "time between two looks at every injected pod")
	f.DurationVar(&c.UninstallWait, "uninstall-wait", 5*time.Second, "time between removing the conflist entry and the binary")
	f.TextVar(&c.Service, "service", kubernetesAPI(), "cluster IP and port of a Service, to find out what becomes of connections to it; empty for none")
	f.StringVar(&c.CiliumNamespace, "cilium-namespace", "kube-system", "namespace of Cilium's ConfigMap cilium-config, read on nodes with Cilium; empty for not to")
	f.StringVar(&c.Listen, "listen", ":18001", "address of /healthz, /readyz and /metrics")
	f.TextVar(&c.LogLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	f.StringVar(&c.Kubeconfig, "kubeconfig", "", "kubeconfig file; empty inside a cluster")
	if err := f.Parse(args); err != nil {
		return Config{}, err
	}
	if f.NArg() > 0 {
		return Config{}, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	var ok bool
	if c.DaemonSet.Namespace, c.DaemonSet.Name, ok = strings.Cut(daemonSet, "/"); !ok {
		c.DaemonSet = types.NamespacedName{}
	}
	return c, c.Validate()
}

// Validate reports every value that is missing or out of range, by its flag.
func (c Config) Validate() error {
	var errs []error
	require := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	require(c.NodeName != "", "--node-name is required")
	require(c.DaemonSet.Namespace != "" && c.DaemonSet.Name != "" && !strings.Contains(c.DaemonSet.Name, "/"),
		"--daemonset is required, as <namespace>/<name>")
	for _, dir := range [][2]string{
		{"cni-conf-dir", c.ConfDir}, {"cni-bin-dir", c.BinDir}, {"cni-cache-dir", c.CacheDir}, {"netns-dir", c.NetnsDir},
	} {
		require(filepath.IsAbs(dir[1]), "--%s %q: must be an absolute path", dir[0], dir[1])
	}
	require(c.HostRoot == "" || filepath.IsAbs(c.HostRoot), "--host-root %q: must be an absolute path", c.HostRoot)
	require(c.Plugin != "", "--plugin is required")
	if err := apply.ValidateName(c.Backend); err != nil {
		errs = append(errs, fmt.Errorf("--%w", err))
	}
	require(c.VerifyInterval > 0, "--verify-interval %s: must be more than 0", c.VerifyInterval)
	require(c.UninstallWait >= 0, "--uninstall-wait %s: must not be negative", c.UninstallWait)
	return errors.Join(errs...)
}

// besideExecutable is the path of a file that is installed with this program.
func besideExecutable(name string) string {
	exe, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(exe), name)
}

// kubernetesAPI is the Service of the API server as the kubelet tells every pod;
// not valid outside a cluster, and where it is a name.
func kubernetesAPI() netip.AddrPort {
	address, err := netip.ParseAddrPort(net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")))
	if err != nil {
		return netip.AddrPort{}
	}
	return address
}
