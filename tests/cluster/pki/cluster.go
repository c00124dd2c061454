package pki

import (
	"os"
	"path/filepath"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// PebbleNamespace is where the ACME server runs, if it does.
const PebbleNamespace = "acme"

// Write makes everything that the components of cluster p present to each
// other, in p.Dir("pki") and p.Dir("kubeconfigs"), and the administrator's
// kubeconfig.
func Write(p *plan.Plan) error {
	a, err := NewAuthority(p.Dir("pki"))
	if err != nil {
		return err
	}
	if err := WriteTokenKey(p.ServiceAccountKey()); err != nil {
		return err
	}
	v4, v6 := p.NodeV4().Addr().String(), p.NodeV6().Addr().String()
	certificates := map[string]Identity{
		"apiserver": {Name: "kube-apiserver", Hosts: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + plan.Domain,
			"localhost", "127.0.0.1", "::1", v4, v6, plan.KubernetesV4, plan.KubernetesV6,
		}},
		"apiserver-kubelet": {Name: "kube-apiserver-kubelet-client", Group: "system:masters"},
		"kubelet":           {Name: "system:node:" + p.Name, Group: "system:nodes", Hosts: []string{p.Name, v4, v6}},
		"pebble":            {Name: "pebble", Hosts: []string{"pebble." + PebbleNamespace + ".svc"}},
	}
	for name, id := range certificates {
		if err := a.Issue(name, id); err != nil {
			return err
		}
	}
	clients := map[string]Identity{
		"kube-controller-manager": {Name: "system:kube-controller-manager"},
		"kube-scheduler":          {Name: "system:kube-scheduler"},
		"kube-proxy":              {Name: "system:kube-proxy"},
		"kubelet":                 {Name: "system:node:" + p.Name, Group: "system:nodes"},
		"load-balancer":           {Name: "load-balancer", Group: "system:masters"},
	}
	for name, id := range clients {
		if err := a.WriteKubeconfig(p.NodeKubeconfig(name), p.Name, p.Server(), id); err != nil {
			return err
		}
	}
	// Last, and by renaming: whoever sees it can rely on all the rest.
	temporary := filepath.Join(p.Dir("kubeconfigs"), "admin")
	admin := Identity{Name: "admin", Group: "system:masters"}
	if err := a.WriteKubeconfig(temporary, p.Name, p.Server(), admin); err != nil {
		return err
	}
	return os.Rename(temporary, p.Kubeconfig())
}
