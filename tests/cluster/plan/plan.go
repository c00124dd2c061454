// Package plan derives what the parts of one cluster must agree on from its
// name: paths, addresses and names. It reads and writes nothing.
package plan

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
)

// DefaultName is the cluster that the repository's own commands use. Its
// kubeconfig is State/kubeconfig and its registry is on port 5000.
const DefaultName = "traffic"

// Addresses inside the cluster. They live in the cluster's own network
// namespace, so every cluster has the same.
const (
	PodCIDRv4     = "10.244.0.0/16"
	PodCIDRv6     = "fd00:10:244::/56"
	ServiceCIDRv4 = "10.96.0.0/16"
	ServiceCIDRv6 = "fd00:10:96::/112"
	DNSv4         = "10.96.0.10"
	DNSv6         = "fd00:10:96::a"
	KubernetesV4  = "10.96.0.1"
	KubernetesV6  = "fd00:10:96::1"
	Domain        = "cluster.local"
	// NodeMaskV4 and NodeMaskV6 are the prefix lengths of the node's share of
	// the pod addresses; the single node gets the first share.
	NodeMaskV4 = 20
	NodeMaskV6 = 64
)

// Ports of the cluster's components.
const (
	APIPort      = 6443
	RegistryPort = 5000
	EtcdPort     = 2379
)

// RegistryHost is how pods and the container runtime name the registry.
const RegistryHost = "localhost:5000"

// names that also make a DNS label, a cgroup and a file name.
var validName = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

// sharedDirs are the state directory's folders that belong to no one cluster.
var sharedDirs = []string{"bin", "images", "registry"}

// Plan is one cluster's paths and addresses. Make it with New.
type Plan struct {
	Name  string
	State string // absolute path of the state directory, shared by clusters
	Net   int    // 0 to 255: the third octet of the machine-side subnet
}

// New plans the cluster name with its files under state, an absolute path.
// net chooses the subnet that joins the cluster to the machine, 0 to 255; -1
// derives it from the name, 0 for DefaultName.
func New(name, state string, net int) (*Plan, error) {
	if !validName.MatchString(name) {
		return nil, fmt.Errorf("cluster name %q: want at most 31 lower case letters, digits and dashes, a letter first", name)
	}
	if slices.Contains(sharedDirs, name) {
		return nil, fmt.Errorf("cluster name %q: the state directory has a folder of that name for all clusters", name)
	}
	if !filepath.IsAbs(state) {
		return nil, fmt.Errorf("state directory %q: want an absolute path", state)
	}
	if net < -1 || net > 255 {
		return nil, fmt.Errorf("cluster subnet %d: want 0 to 255, or -1 to derive it from the name", net)
	}
	if net == -1 {
		net = netOf(name)
	}
	return &Plan{Name: name, State: state, Net: net}, nil
}

func netOf(name string) int {
	if name == DefaultName {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(name))
	return 1 + int(h.Sum32()%255)
}

// Bin is where the programs are, shared by all clusters of a state directory.
func (p *Plan) Bin(elem ...string) string {
	return filepath.Join(append([]string{p.State, "bin"}, elem...)...)
}

// Dir is the cluster's own directory, or a path below it.
func (p *Plan) Dir(elem ...string) string {
	return filepath.Join(append([]string{p.State, p.Name}, elem...)...)
}

// Shared is a path of the state directory that all clusters share.
func (p *Plan) Shared(elem ...string) string {
	return filepath.Join(append([]string{p.State}, elem...)...)
}

// Kubeconfig is the administrator's kubeconfig, usable on the machine.
func (p *Plan) Kubeconfig() string {
	if p.Name == DefaultName {
		return p.Shared("kubeconfig")
	}
	return p.Dir("kubeconfig")
}

// NodeKubeconfig is the kubeconfig of a component inside the node.
func (p *Plan) NodeKubeconfig(component string) string {
	return p.Dir("kubeconfigs", component)
}

// ServiceAccountKey is the RSA private key that signs ServiceAccount tokens.
func (p *Plan) ServiceAccountKey() string { return p.Dir("pki", "service-account.key") }

// Socket is where the node's supervisor answers.
func (p *Plan) Socket() string { return p.Dir("node.sock") }

// Log is the log file of a component.
func (p *Plan) Log(component string) string { return p.Dir("logs", component+".log") }

// Cgroup is the cgroup, in every hierarchy, below which all pods live. Its own
// name keeps the kubelets of two clusters from deleting each other's pods.
func (p *Plan) Cgroup() string { return "/traffic-" + p.Name }

// Link is the machine's end of the cable to the cluster.
func (p *Plan) Link() string { return fmt.Sprintf("traffic-veth%d", p.Net) }

// MachinePort is the registry's port on the machine's loopback.
func (p *Plan) MachinePort() int { return RegistryPort + p.Net }

// MachineRegistry is the registry's address on the machine.
func (p *Plan) MachineRegistry() string { return fmt.Sprintf("localhost:%d", p.MachinePort()) }

// MachineV4 is the machine's IPv4 address on the cable.
func (p *Plan) MachineV4() netip.Prefix { return p.v4(1) }

// MachineV6 is the machine's IPv6 address on the cable.
func (p *Plan) MachineV6() netip.Prefix { return p.v6(1) }

// NodeV4 is the node's IPv4 address on the cable.
func (p *Plan) NodeV4() netip.Prefix { return p.v4(2) }

// NodeV6 is the node's IPv6 address on the cable.
func (p *Plan) NodeV6() netip.Prefix { return p.v6(2) }

// BalancerV4 is the range of IPv4 load balancer addresses.
func (p *Plan) BalancerV4() netip.Prefix {
	return netip.PrefixFrom(p.v4(128).Addr(), 25)
}

// BalancerV6 is the range of IPv6 load balancer addresses.
func (p *Plan) BalancerV6() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd00:10:201:%x:1::/112", p.Net))
}

// Server is the API server's URL, the same inside and outside the cluster.
func (p *Plan) Server() string {
	return fmt.Sprintf("https://%s:%d", p.NodeV4().Addr(), APIPort)
}

func (p *Plan) v4(host byte) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 201, byte(p.Net), host}), 24)
}

func (p *Plan) v6(host int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd00:10:201:%x::%x/64", p.Net, host))
}
