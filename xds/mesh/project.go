package mesh

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// This file says what the mesh takes from Kubernetes objects. Two objects with equal projections are the same to it, so
// that heartbeats and the writes of other controllers change nothing.

// labelled is what every projection of an object with labels has.
type labelled struct {
	// labels are those of the vocabulary that have a value.
	labels   map[string]string
	settings label.Settings
	problems []label.Problem
}

func parseLabels(kind string, labels map[string]string) labelled {
	var l labelled
	for key, value := range labels {
		if !strings.HasPrefix(key, label.Prefix) || value == "" {
			continue
		}
		if l.labels == nil {
			l.labels = map[string]string{}
		}
		l.labels[key] = value
	}
	l.settings, l.problems = label.Parse(label.Kind(kind), l.labels)
	return l
}

type service struct {
	labelled
	object  Object
	created int64 // seconds
	spec    label.ServiceSpec
	// v6 says that the primary family is IPv6.
	v6         bool
	clusterIPs []netip.Addr
	// otherIPs are external and load balancer addresses, which more than one Service can claim.
	otherIPs []netip.Addr
}

func projectService(s *corev1.Service) *service {
	p := &service{
		labelled: parseLabels(string(label.Service), s.Labels),
		object:   Object{Kind: string(label.Service), Namespace: s.Namespace, Name: s.Name},
		created:  s.CreationTimestamp.Unix(),
		spec: label.ServiceSpec{
			Type: string(s.Spec.Type), ClusterIP: s.Spec.ClusterIP, SessionAffinity: string(s.Spec.SessionAffinity),
		},
	}
	if policy := s.Spec.InternalTrafficPolicy; policy != nil {
		p.spec.InternalTrafficPolicy = string(*policy)
	}
	// An ExternalName Service is an alias in DNS: it has no address, whatever its other fields say.
	if s.Spec.Type != corev1.ServiceTypeExternalName {
		p.clusterIPs = unicast(append(slices.Clone(s.Spec.ClusterIPs), s.Spec.ClusterIP))
		p.otherIPs = unicast(append(slices.Clone(s.Spec.ExternalIPs), loadBalancerIPs(s)...))
	}
	if len(s.Spec.IPFamilies) > 0 {
		p.v6 = s.Spec.IPFamilies[0] == corev1.IPv6Protocol
	}
	for _, port := range s.Spec.Ports {
		p.spec.Ports = append(p.spec.Ports, label.ServicePort{Port: port.Port, Name: port.Name, Protocol: string(port.Protocol)})
	}
	return p
}

// headless reports whether the Service is reached at the addresses of its endpoints.
func (s *service) headless() bool { return s.spec.Headless() }

// loadBalancerIPs leaves out those that nodes do not short-cut either: the balancer does something to what passes it,
// for example end TLS.
func loadBalancerIPs(s *corev1.Service) []string {
	var ips []string
	for _, ingress := range s.Status.LoadBalancer.Ingress {
		if ingress.IPMode == nil || *ingress.IPMode == corev1.LoadBalancerIPModeVIP {
			ips = append(ips, ingress.IP)
		}
	}
	return ips
}

// unicast returns the addresses that can be a peer's, sorted, each once. No object may name an address of the proxy's
// own host or link.
func unicast(texts []string) []netip.Addr {
	var addresses []netip.Addr
	for _, text := range texts {
		a, err := netip.ParseAddr(text)
		if err != nil { // empty, "None", or a host name
			continue
		}
		a = a.Unmap()
		if a.IsGlobalUnicast() && a.Zone() == "" {
			addresses = append(addresses, a)
		}
	}
	slices.SortFunc(addresses, netip.Addr.Compare)
	return slices.Compact(addresses)
}

type endpointSlice struct {
	service   Object
	ports     map[string]uint16 // TCP ports by name
	endpoints []sliceEndpoint
}

type sliceEndpoint struct {
	address netip.Addr
	state   state
	pod     Object // zero when the endpoint is no pod
}

// state says whether an endpoint takes new traffic; the larger is the better.
type state uint8

const (
	unready  state = iota
	draining       // terminating, and still serving
	ready
)

func projectEndpointSlice(s *discoveryv1.EndpointSlice) *endpointSlice {
	p := &endpointSlice{}
	if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
		p.service = Object{Kind: string(label.Service), Namespace: s.Namespace, Name: name}
	}
	for _, port := range s.Ports {
		if port.Port == nil || port.Protocol != nil && *port.Protocol != corev1.ProtocolTCP {
			continue
		}
		var name string
		if port.Name != nil {
			name = *port.Name
		}
		if p.ports == nil {
			p.ports = map[string]uint16{}
		}
		p.ports[name] = uint16(*port.Port)
	}
	for _, e := range s.Endpoints {
		// Several addresses of one endpoint are interchangeable.
		address := unicast(e.Addresses[:min(1, len(e.Addresses))])
		if len(address) == 0 {
			continue
		}
		endpoint := sliceEndpoint{address: address[0], state: stateOf(e.Conditions)}
		if ref := e.TargetRef; ref != nil && ref.Kind == string(label.Pod) {
			endpoint.pod = Object{Kind: ref.Kind, Namespace: s.Namespace, Name: ref.Name}
		}
		p.endpoints = append(p.endpoints, endpoint)
	}
	return p
}

// stateOf reads the conditions as the API defines them: what is not said counts as ready, and not as terminating.
func stateOf(c discoveryv1.EndpointConditions) state {
	switch {
	case c.Ready == nil || *c.Ready:
		return ready
	case c.Terminating != nil && *c.Terminating && c.Serving != nil && *c.Serving:
		return draining
	}
	return unready
}

type pod struct {
	labelled
	owner Object // the controller; zero when there is none
	// injected says that Envoy is in the pod, injectable that it could be.
	injected, injectable bool
	// addresses are the pod's, its primary one first; none if it has ended.
	addresses []netip.Addr
	// onNode says that they are its node's, which are many pods'.
	onNode  bool
	created int64 // seconds
}

func projectPod(p *corev1.Pod) *pod {
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	running := p.DeletionTimestamp == nil && !ended
	windows := p.Spec.OS != nil && p.Spec.OS.Name == corev1.Windows
	projected := &pod{
		labelled:   parseLabels(string(label.Pod), p.Labels),
		owner:      controllerOf(&p.ObjectMeta),
		created:    p.CreationTimestamp.Unix(),
		onNode:     p.Spec.HostNetwork,
		injected:   running && p.Annotations[label.ProxyAnnotation] != "",
		injectable: running && !windows && !p.Spec.HostNetwork,
	}
	// The address of a pod that has ended is another's soon. Whether a pod is ready does not matter to who dials it.
	if !ended {
		for _, ip := range p.Status.PodIPs {
			projected.addresses = append(projected.addresses, unicast([]string{ip.IP})...)
		}
	}
	return projected
}

// ownAddresses are those that are no other pod's.
func (p *pod) ownAddresses() []netip.Addr {
	if p == nil || p.onNode {
		return nil
	}
	return p.addresses
}

// A workload is a Deployment, StatefulSet or DaemonSet, or the ReplicaSet between a Deployment and its pods.
type workload struct {
	labelled
	owner Object // of a ReplicaSet: its Deployment
	// template says that the pod template has a label about injection, its author's or the webhook's copy.
	template bool
}

func projectWorkload(kind string, meta *metav1.ObjectMeta, template map[string]string) *workload {
	w := &workload{owner: controllerOf(meta), template: template[label.EnabledKey] != ""}
	// A ReplicaSet carries its pods' labels, not labels that a user gave it.
	if kind != ReplicaSet {
		w.labelled = parseLabels(kind, meta.Labels)
	}
	return w
}

// controllerOf returns the workload of the API group apps that controls an object.
func controllerOf(meta *metav1.ObjectMeta) Object {
	ref := metav1.GetControllerOfNoCopy(meta)
	if ref == nil || !strings.HasPrefix(ref.APIVersion, "apps/") {
		return Object{}
	}
	return Object{Kind: ref.Kind, Namespace: meta.Namespace, Name: ref.Name}
}
