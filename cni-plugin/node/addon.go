package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"k8s.io/client-go/kubernetes"
)

// addOn is a network add-on that can balance connections of pods when they are
// made, as far as its configuration tells.
type addOn struct {
	name  string // empty for none that is known to
	where string // its configuration
	has   string // the settings by which it does so; empty if it leaves pods alone
	set   string // what makes it leave pods alone
}

// addOnReader finds out which add-on a node has, from the plugins of its CNI
// configuration, and asks the API server for that one's. On nodes with another it
// asks for nothing. What really happens to connections is connectProbe's to see.
type addOnReader struct {
	confDir         string
	ciliumNamespace string // of its ConfigMap; empty for not to look
	// get reads an object of the API server as JSON.
	get func(ctx context.Context, path string) ([]byte, error)
}

// getFrom reads objects as JSON, of APIs too that no type of ours stands for.
func getFrom(client kubernetes.Interface) func(ctx context.Context, path string) ([]byte, error) {
	return func(ctx context.Context, path string) ([]byte, error) {
		return client.CoreV1().RESTClient().Get().AbsPath(path).SetHeader("Accept", "application/json").DoRaw(ctx)
	}
}

// read returns the node's add-on; without a name if there is none to tell of.
func (r addOnReader) read(ctx context.Context) (addOn, error) {
	types, err := activeTypes(r.confDir)
	if err != nil {
		return addOn{}, err
	}
	switch {
	case slices.Contains(types, "cilium-cni") && r.ciliumNamespace != "":
		return r.cilium(ctx)
	case slices.Contains(types, "calico"):
		return r.calico(ctx)
	}
	return addOn{}, nil
}

func (r addOnReader) cilium(ctx context.Context) (addOn, error) {
	const name = "cilium-config"
	text, err := r.get(ctx, "/api/v1/namespaces/"+r.ciliumNamespace+"/configmaps/"+name)
	if err != nil {
		return addOn{}, fmt.Errorf("configuration of Cilium: %w", err)
	}
	var config struct {
		Data map[string]string `json:"data"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return addOn{}, fmt.Errorf("configuration of Cilium: %w", err)
	}
	return addOn{
		name: "Cilium", where: "ConfigMap " + r.ciliumNamespace + "/" + name, has: ciliumBalances(config.Data),
		set: `socketLB.hostNamespaceOnly=true in the values of its chart, which is bpf-lb-sock-hostns-only: "true" there, and restart its agents`,
	}, nil
}

// ciliumBalances says by which settings Cilium balances connections inside pods;
// empty if it does not.
func ciliumBalances(config map[string]string) string {
	const hostOnly = "bpf-lb-sock-hostns-only"
	if config[hostOnly] == "true" {
		return ""
	}
	// Each of the first two has it balance at connect; strict, probe and the last key are of before 1.14.
	for _, key := range []string{"kube-proxy-replacement", "bpf-lb-sock", "enable-host-reachable-services"} {
		if slices.Contains([]string{"true", "strict", "probe"}, config[key]) {
			return fmt.Sprintf("%s=%s and %s=%s", key, config[key], hostOnly, cmp.Or(config[hostOnly], "false"))
		}
	}
	return ""
}

func (r addOnReader) calico(ctx context.Context) (addOn, error) {
	text, err := r.get(ctx, "/apis/crd.projectcalico.org/v1/felixconfigurations/default")
	if err != nil {
		return addOn{}, fmt.Errorf("configuration of Calico: %w", err)
	}
	var config struct {
		Spec felix `json:"spec"`
	}
	if err := json.Unmarshal(text, &config); err != nil {
		return addOn{}, fmt.Errorf("configuration of Calico: %w", err)
	}
	return addOn{
		name: "Calico", where: "FelixConfiguration default", has: config.Spec.balances(),
		set: "bpfConnectTimeLoadBalancing: Disabled and bpfHostNetworkedNATWithoutCTLB: Enabled there",
	}, nil
}

// felix is what a FelixConfiguration says about balancing at connect.
type felix struct {
	BPF           bool   `json:"bpfEnabled"`
	AtConnect     string `json:"bpfConnectTimeLoadBalancing"`
	AtConnectOnce *bool  `json:"bpfConnectTimeLoadBalancingEnabled"` // as it was called before
}

func (f felix) balances() string {
	if !f.BPF || f.AtConnect == "Disabled" || f.AtConnectOnce != nil && !*f.AtConnectOnce {
		return ""
	}
	return "bpfEnabled=true and bpfConnectTimeLoadBalancing=" + cmp.Or(f.AtConnect, "TCP")
}

// activeTypes are the types of the plugins that the runtime calls.
func activeTypes(dir string) ([]string, error) {
	path, err := activeFile(dir)
	if err != nil {
		return nil, err
	}
	data, _, err := readFile(path)
	if err != nil {
		return nil, err
	}
	var keys struct {
		Type    string `json:"type"` // of a single plugin
		Plugins []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(data, &keys); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	types := []string{keys.Type}
	for _, p := range keys.Plugins {
		types = append(types, p.Type)
	}
	return types, nil
}

// watchAddOn reads the add-on's configuration now and at every interval until ctx
// ends, beside the loop, which must not wait for the API server.
func (a *Agent) watchAddOn(ctx context.Context) {
	interval := time.NewTicker(a.config.VerifyInterval)
	defer interval.Stop()
	said := ""
	for {
		ask, cancel := context.WithTimeout(ctx, askTimeout)
		found, err := a.addOns.read(ask)
		cancel()
		switch {
		case err == nil:
			said = ""
			if before := a.repairer.connect.addOn.Swap(&found); before == nil || *before != found {
				a.poke()
			}
		case ctx.Err() == nil && err.Error() != said:
			said = err.Error()
			a.log.Info("cannot tell from a configuration whether connections are balanced when they are made", "error", said)
		}
		select {
		case <-ctx.Done():
			return
		case <-interval.C:
		}
	}
}
