package node

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/pelletier/go-toml/v2"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// conflistDir is where the container runtime looks for the pods' network, and
// cniBin, beside the built plugins, where others put theirs.
const (
	conflistDir = "/etc/cni/net.d"
	cniBin      = "/opt/cni/bin"
	runtimeSock = "/run/containerd/containerd.sock"
)

// object is one level of a configuration file.
type object = map[string]any

// writeConfigs writes the configuration files of the components.
func writeConfigs(p *plan.Plan) error {
	containerd, err := toml.Marshal(containerdConfig(p))
	if err != nil {
		return fmt.Errorf("encode containerd's configuration: %w", err)
	}
	kubelet, err := yaml.Marshal(kubeletConfig(p))
	if err != nil {
		return fmt.Errorf("encode the kubelet's configuration: %w", err)
	}
	proxy, err := yaml.Marshal(proxyConfig(p))
	if err != nil {
		return fmt.Errorf("encode kube-proxy's configuration: %w", err)
	}
	files := map[string][]byte{
		p.Dir("config", "containerd.toml"): containerd,
		p.Dir("config", "kubelet.yaml"):    kubelet,
		p.Dir("config", "kube-proxy.yaml"): proxy,
		p.Dir("config", "resolv.conf"):     []byte("nameserver " + plan.DNSv4 + "\n"),
	}
	for path, content := range files {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
		if err := os.WriteFile(path, content, 0o644); err != nil {
			return fmt.Errorf("write %s: %w", path, err)
		}
	}
	return writeConflist()
}

// writeConflist configures the pods' network, but for a node that has been started
// before: what was made of the file since stays, as on any disk.
func writeConflist() error {
	path := filepath.Join(conflistDir, "10-pods.conflist")
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	text, err := json.MarshalIndent(conflist(), "", "  ")
	if err != nil {
		return fmt.Errorf("encode the pods' network: %w", err)
	}
	if err := os.MkdirAll(conflistDir, 0o755); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return os.WriteFile(path, text, 0o644)
}

// NewerRunc names the runtime handler that runs the runc which cluster.Runc builds.
const NewerRunc = "newer-runc"

func containerdConfig(p *plan.Plan) object {
	runtimes := object{"runc": object{"runtime_type": "io.containerd.runc.v2"}}
	// What is not there must not be named: containerd asks each for what it can do.
	if program := p.Bin("runc"); isFile(program) {
		runtimes[NewerRunc] = object{"runtime_type": "io.containerd.runc.v2", "options": object{"BinaryName": program}}
	}
	return object{
		"version": 3,
		"root":    "/var/lib/containerd",
		"state":   "/run/containerd",
		"grpc":    object{"address": runtimeSock},
		"plugins": object{
			"io.containerd.cri.v1.images": object{
				"snapshotter":   "overlayfs",
				"pinned_images": object{"sandbox": plan.RegistryHost + "/pause:v1"},
			},
			"io.containerd.cri.v1.runtime": object{
				// Lowering a score needs CAP_SYS_RESOURCE, which a machine may not have.
				"restrict_oom_score_adj": true,
				"cni":                    object{"bin_dirs": []string{cniBin}, "conf_dir": conflistDir},
				"containerd":             object{"runtimes": runtimes},
			},
		},
	}
}

func isFile(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func kubeletConfig(p *plan.Plan) object {
	return object{
		"apiVersion":   "kubelet.config.k8s.io/v1beta1",
		"kind":         "KubeletConfiguration",
		"cgroupDriver": "cgroupfs",
		"cgroupRoot":   p.Cgroup(),
		"failCgroupV1": false,
		"failSwapOn":   false,
		// Everything about memory and disk is the machine's business, not the cluster's.
		"evictionHard": object{
			"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%",
		},
		"imageGCHighThresholdPercent": 100,
		"oomScoreAdj":                 0,
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": true},
			"x509":      object{"clientCAFile": p.Dir("pki", "ca.crt")},
		},
		"authorization":            object{"mode": "Webhook"},
		"tlsCertFile":              p.Dir("pki", "kubelet.crt"),
		"tlsPrivateKeyFile":        p.Dir("pki", "kubelet.key"),
		"clusterDNS":               []string{plan.DNSv4},
		"clusterDomain":            plan.Domain,
		"resolvConf":               p.Dir("config", "resolv.conf"),
		"containerRuntimeEndpoint": "unix://" + runtimeSock,
		"volumePluginDir":          "/var/lib/kubelet/volume-plugins",
		"makeIPTablesUtilChains":   false,
		"maxPods":                  500,
		"serializeImagePulls":      false,
		"registryPullQPS":          0,
		"eventRecordQPS":           0,
	}
}

func proxyConfig(p *plan.Plan) object {
	return object{
		"apiVersion":         "kubeproxy.config.k8s.io/v1alpha1",
		"kind":               "KubeProxyConfiguration",
		"mode":               "nftables",
		"clientConnection":   object{"kubeconfig": p.NodeKubeconfig("kube-proxy")},
		"clusterCIDR":        plan.PodCIDRv4 + "," + plan.PodCIDRv6,
		"hostnameOverride":   p.Name,
		"conntrack":          object{"maxPerCore": 0}, // the limit is the whole machine's
		"oomScoreAdj":        0,
		"healthzBindAddress": "127.0.0.1:10256",
		"nftables":           object{"minSyncPeriod": "100ms"},
	}
}

// conflist is the pods' network: a bridge, addresses of both families, and
// host ports. A bridge and not ptp, because ptp waits one to two seconds in
// each pod until its IPv6 address is known to be nobody else's.
func conflist() object {
	return object{
		"cniVersion": "1.1.0",
		"name":       "pods",
		"plugins": []object{
			{
				"type": "bridge", "bridge": bridgeName, "isGateway": true, "hairpinMode": true,
				"ipam": object{
					"type": "host-local",
					"ranges": [][]object{
						{{"subnet": nodeShare(plan.PodCIDRv4, plan.NodeMaskV4)}},
						{{"subnet": nodeShare(plan.PodCIDRv6, plan.NodeMaskV6)}},
					},
					"routes": []object{{"dst": "0.0.0.0/0"}, {"dst": "::/0"}},
				},
			},
			{"type": "portmap", "capabilities": object{"portMappings": true}, "backend": "nftables", "snat": true},
		},
	}
}

// nodeShare is the node's part of cidr, the first of its size.
func nodeShare(cidr string, bits int) string {
	return firstAddress(cidr, bits).Masked().String()
}
