package chart

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// A party is one end of a connection: a pod, or only an address when it is none.
type party struct {
	namespace string // empty for none
	labels    map[string]string
	addr      netip.Addr
	uid       string // of a pod of the local cluster
}

// policies are NetworkPolicies as a network add-on understands them.
type policies []networkingv1.NetworkPolicy

// allow reports whether a connection that goes to a port of to, behind any Service, is let out and in.
func (all policies) allow(t *testing.T, from, to party, port int32) bool {
	t.Helper()
	out := all.permits(t, networkingv1.PolicyTypeEgress, from, func(spec networkingv1.NetworkPolicySpec) bool {
		return slices.ContainsFunc(spec.Egress, func(r networkingv1.NetworkPolicyEgressRule) bool { return ruleFits(t, r.To, r.Ports, to, port) })
	})
	in := all.permits(t, networkingv1.PolicyTypeIngress, to, func(spec networkingv1.NetworkPolicySpec) bool {
		return slices.ContainsFunc(spec.Ingress, func(r networkingv1.NetworkPolicyIngressRule) bool { return ruleFits(t, r.From, r.Ports, from, port) })
	})
	return out && in
}

// permits reports whether no policy of a type is about a party, or the rules of one that is let it.
func (all policies) permits(t *testing.T, kind networkingv1.PolicyType, p party, let func(networkingv1.NetworkPolicySpec) bool) bool {
	t.Helper()
	restricted := false
	for _, policy := range all {
		if p.namespace != policy.Namespace || !slices.Contains(policy.Spec.PolicyTypes, kind) || !selects(t, &policy.Spec.PodSelector, p.labels) {
			continue
		}
		if restricted = true; let(policy.Spec) {
			return true
		}
	}
	return !restricted
}

func ruleFits(t *testing.T, peers []networkingv1.NetworkPolicyPeer, ports []networkingv1.NetworkPolicyPort, other party, port int32) bool {
	t.Helper()
	portFits := len(ports) == 0 || slices.ContainsFunc(ports, func(p networkingv1.NetworkPolicyPort) bool { return p.Port.IntVal == port })
	return portFits && (len(peers) == 0 || slices.ContainsFunc(peers, func(peer networkingv1.NetworkPolicyPeer) bool { return is(t, other, peer) }))
}

// is reports whether a peer of a policy of the release's namespace means a party.
func is(t *testing.T, p party, peer networkingv1.NetworkPolicyPeer) bool {
	t.Helper()
	if peer.IPBlock != nil {
		return p.namespace == "" && netip.MustParsePrefix(peer.IPBlock.CIDR).Contains(p.addr)
	}
	inNamespace := p.namespace == namespace
	if peer.NamespaceSelector != nil {
		inNamespace = p.namespace != "" && selects(t, peer.NamespaceSelector, map[string]string{corev1.LabelMetadataName: p.namespace})
	}
	return inNamespace && (peer.PodSelector == nil || selects(t, peer.PodSelector, p.labels))
}

func selects(t *testing.T, selector *metav1.LabelSelector, set map[string]string) bool {
	t.Helper()
	parsed, err := metav1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return parsed.Matches(labels.Set(set))
}

// Whoever restricts a namespace must not cut off what our programs live on, nor leave open what only they need.
func TestPoliciesLetPassWhatTheProgramsNeedAndNothingElse(t *testing.T) {
	for name, more := range map[string]string{
		"default ports": "",
		"other ports":   "port.trafficControl=18002,port.envoyAdmin=8901,port.webhook=9443,port.trafficNode=18003,port.prometheusPort=9091,port.trafficZipkin=9412",
	} {
		t.Run(name, func(t *testing.T) {
			monitoring := "[{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]"
			values := "networkPolicies: {enabled: true, apiServer: {cidrs: [192.0.2.10/32], ports: [6443]}, metricsFrom: " + monitoring +
				", queriesFrom: " + monitoring + "}\nzipkin: {enabled: true}\n"
			arguments := []string{"-f", valuesFile(t, []byte(values))}
			if more != "" {
				arguments = append(arguments, "--set", more)
			}
			judge(t, template(t, arguments...))
		})
	}
}

func judge(t *testing.T, rendered string) {
	t.Helper()
	all := policies(decode[networkingv1.NetworkPolicy](t, rendered, "NetworkPolicy"))
	parties := map[string]party{
		"sidecar":   {namespace: "shop", labels: map[string]string{"app": "web"}},
		"scraper":   {namespace: "monitoring", labels: map[string]string{"app": "prometheus"}},
		"apiserver": {addr: netip.MustParseAddr("192.0.2.10")},
		"outside":   {addr: netip.MustParseAddr("198.51.100.7")},
		"node":      {addr: netip.MustParseAddr("192.0.2.20")},
	}
	ports := map[string]int32{"apiserver/https": 6443, "sidecar/http": 9080, "outside/https": 443}
	for name, pod := range pods(t, rendered) {
		if name == "traffic-node" {
			name = "node"
		} else {
			parties[name] = party{namespace: namespace, labels: pod.Labels}
		}
		for _, c := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
			for _, port := range c.Ports {
				ports[name+"/"+port.Name] = port.ContainerPort
			}
		}
	}
	ports["sidecar/stats"] = ports["traffic-ingress/stats"]
	allowed := map[string][]string{ // by port, all who may connect
		"traffic-control/xds":     {"scraper", "sidecar", "traffic-ingress"},
		"traffic-control/status":  {"scraper", "traffic-prometheus"},
		"traffic-webhook/https":   {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress"},
		"traffic-webhook/status":  {"scraper", "traffic-prometheus"},
		"traffic-ingress/http":    {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress"},
		"traffic-ingress/https":   {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress"},
		"traffic-ingress/stats":   {"scraper", "traffic-prometheus"},
		"traffic-prometheus/http": {"scraper"},
		"traffic-zipkin/http":     {"scraper", "sidecar", "traffic-ingress"},
		"sidecar/stats":           {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress", "traffic-prometheus"},
		"sidecar/http":            {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress"},
		"node/status":             {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress", "traffic-prometheus"},
		"apiserver/https":         {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-control", "traffic-ingress", "traffic-prometheus"},
		"outside/https":           {"apiserver", "node", "outside", "scraper", "sidecar", "traffic-ingress"},
	}
	for target, port := range ports {
		to, _, _ := strings.Cut(target, "/")
		var got []string
		for name, from := range parties {
			if all.allow(t, from, parties[to], port) {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, allowed[target]) {
			t.Errorf("%s, port %d: may connect %q\nwant %q", target, port, got, allowed[target])
		}
	}
	for target := range allowed {
		if ports[target] == 0 {
			t.Errorf("there is no port %s any more", target)
		}
	}
}
