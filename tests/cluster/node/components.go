package node

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// Component is one program of the node.
type Component struct {
	Name  string
	Args  []string // the program's path first
	Files []*os.File
	Needs []string // components that must be ready before this one starts
	// Ready asks the component whether it serves; nil if running is enough.
	Ready func(context.Context) error
}

// components lists the node's programs in the order of their needs. self is
// this program, which also serves the registry and hands out load balancer
// addresses; registry is the listener of the registry on the machine.
func components(p *plan.Plan, self string, registry *os.File) []Component {
	own := func(verb string) []string {
		return []string{self, "-name", p.Name, "-state", p.State, "-net", fmt.Sprint(p.Net), verb}
	}
	return []Component{
		{Name: "registry", Args: own("registry"), Files: []*os.File{registry}, Ready: httpGet("http://localhost:5000/v2/")},
		{Name: "etcd", Args: etcd(p), Ready: httpGet(fmt.Sprintf("http://127.0.0.1:%d/readyz", plan.EtcdPort))},
		{Name: "containerd", Args: []string{p.Bin("containerd"), "--config", p.Dir("config", "containerd.toml")}, Ready: dial(runtimeSock)},
		{Name: "kube-apiserver", Args: apiserver(p), Needs: []string{"etcd"}, Ready: httpGet("https://127.0.0.1:6443/readyz")},
		{Name: "kube-controller-manager", Args: controllerManager(p), Needs: []string{"kube-apiserver"}, Ready: httpGet("https://127.0.0.1:10257/healthz")},
		{Name: "kube-scheduler", Args: scheduler(p), Needs: []string{"kube-apiserver"}, Ready: httpGet("https://127.0.0.1:10259/healthz")},
		{
			Name: "kube-proxy", Args: []string{p.Bin("kube-proxy"), "--config", p.Dir("config", "kube-proxy.yaml")},
			Needs: []string{"kube-apiserver"}, Ready: httpGet("http://127.0.0.1:10256/livez"),
		},
		{Name: "kubelet", Args: kubelet(p), Needs: []string{"kube-apiserver", "containerd"}, Ready: httpGet("http://127.0.0.1:10248/healthz")},
		{Name: "load-balancer", Args: own("load-balancer"), Needs: []string{"kube-apiserver"}},
	}
}

func etcd(p *plan.Plan) []string {
	url := fmt.Sprintf("http://127.0.0.1:%d", plan.EtcdPort)
	return []string{
		p.Bin("etcd"),
		"--data-dir", p.Dir("etcd"),
		"--listen-client-urls", url,
		"--advertise-client-urls", url,
		"--listen-peer-urls", "http://127.0.0.1:2380",
		// The data need not survive the machine.
		"--unsafe-no-fsync",
	}
}

func apiserver(p *plan.Plan) []string {
	pki := func(file string) string { return p.Dir("pki", file) }
	return []string{
		p.Bin("kube-apiserver"),
		"--advertise-address=" + p.NodeV4().Addr().String(),
		fmt.Sprintf("--secure-port=%d", plan.APIPort),
		fmt.Sprintf("--etcd-servers=http://127.0.0.1:%d", plan.EtcdPort),
		"--service-cluster-ip-range=" + plan.ServiceCIDRv4 + "," + plan.ServiceCIDRv6,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--client-ca-file=" + pki("ca.crt"),
		"--tls-cert-file=" + pki("apiserver.crt"),
		"--tls-private-key-file=" + pki("apiserver.key"),
		"--kubelet-client-certificate=" + pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + pki("apiserver-kubelet.key"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc." + plan.Domain,
		"--service-account-signing-key-file=" + p.ServiceAccountKey(),
		"--service-account-key-file=" + p.ServiceAccountKey() + ".pub",
		"--enable-bootstrap-token-auth=false",
		// Ends open watches at once; otherwise a stop waits for them.
		"--shutdown-watch-termination-grace-period=1s",
		"--profiling=false",
	}
}

func controllerManager(p *plan.Plan) []string {
	kubeconfig := p.NodeKubeconfig("kube-controller-manager")
	return []string{
		p.Bin("kube-controller-manager"),
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--use-service-account-credentials=true",
		// Each controller asks for its own credentials first; the usual limit
		// of 20 requests a second alone would take five seconds of the start.
		"--kube-api-qps=500", "--kube-api-burst=1000",
		"--service-account-private-key-file=" + p.ServiceAccountKey(),
		"--root-ca-file=" + p.Dir("pki", "ca.crt"),
		"--cluster-signing-cert-file=" + p.Dir("pki", "ca.crt"),
		"--cluster-signing-key-file=" + p.Dir("pki", "ca.key"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + plan.PodCIDRv4 + "," + plan.PodCIDRv6,
		"--service-cluster-ip-range=" + plan.ServiceCIDRv4 + "," + plan.ServiceCIDRv6,
		fmt.Sprintf("--node-cidr-mask-size-ipv4=%d", plan.NodeMaskV4),
		fmt.Sprintf("--node-cidr-mask-size-ipv6=%d", plan.NodeMaskV6),
	}
}

func scheduler(p *plan.Plan) []string {
	kubeconfig := p.NodeKubeconfig("kube-scheduler")
	return []string{
		p.Bin("kube-scheduler"),
		"--kubeconfig=" + kubeconfig,
		"--authentication-kubeconfig=" + kubeconfig,
		"--authorization-kubeconfig=" + kubeconfig,
		"--bind-address=127.0.0.1",
		"--leader-elect=false",
		"--kube-api-qps=500", "--kube-api-burst=1000",
	}
}

func kubelet(p *plan.Plan) []string {
	return []string{
		p.Bin("kubelet"),
		"--kubeconfig=" + p.NodeKubeconfig("kubelet"),
		"--config=" + p.Dir("config", "kubelet.yaml"),
		"--hostname-override=" + p.Name,
		"--node-ip=" + p.NodeV4().Addr().String() + "," + p.NodeV6().Addr().String(),
	}
}

// environment is what every component runs with: the built programs first, no
// proxy, and temporary files in the cluster's own directory.
func environment(p *plan.Plan) []string {
	return []string{
		"PATH=" + p.Bin() + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"HOME=" + p.Dir("tmp"),
		"TMPDIR=" + p.Dir("tmp"),
	}
}

// installPlugins puts the reference CNI plugins where the container runtime
// and other installers expect them.
func installPlugins(p *plan.Plan) error {
	plugins, err := os.ReadDir(p.Bin("cni"))
	if err != nil {
		return fmt.Errorf("list the CNI plugins: %w", err)
	}
	if err := os.MkdirAll(cniBin, 0o755); err != nil {
		return fmt.Errorf("create %s: %w", cniBin, err)
	}
	for _, plugin := range plugins {
		err := os.Symlink(p.Bin("cni", plugin.Name()), filepath.Join(cniBin, plugin.Name()))
		if err != nil && !os.IsExist(err) {
			return fmt.Errorf("install the CNI plugin %s: %w", plugin.Name(), err)
		}
	}
	return nil
}
