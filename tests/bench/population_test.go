package bench

import (
	"context"
	"fmt"
	"testing"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
)

const (
	services = 1000
	// opened is how many of them have an open port, the first ones.
	opened = 500
	// podsEach is how many pods, and endpoints, each Service has.
	podsEach = 2
	// weighted is the Service whose pods are of two Deployments, v1 and v2.
	weighted = 0
	// toggled is the first Service that is opened and closed, once: each edit is of the next. Half of them are for the
	// clients alone, half for Envoy too.
	toggled, toggles = opened, 2 * editsEach
)

const (
	portKey   = "traffic.port.80"
	weightKey = "traffic.endpoint.weight"
	faultKey  = "traffic.fault.abort.percentage"
	limitKey  = "traffic.rate.limit"
)

// ours keeps kube-proxy, which runs on this very machine, out of what is measured.
const ours = "service.kubernetes.io/service-proxy-name"

// A population is the objects of a benchmark, in a namespace of its own.
type population struct {
	client    kubernetes.Interface
	namespace string
	// backends are where the endpoints of the weighted and of the toggled Services are.
	backends [podsEach]endpoint
	// addresses are the Services'.
	addresses [services]string
}

type endpoint struct {
	address string
	port    int32
}

// nowhere is the address of a pod that does not run.
func nowhere(service, pod int) endpoint {
	return endpoint{fmt.Sprintf("10.245.%d.%d", pod<<6|service>>8, service&255), 8080}
}

func serviceName(n int) string { return fmt.Sprintf("app-%d", n) }

func podName(service, pod int) string { return fmt.Sprintf("app-%d-%d", service, pod) }

// clusterName is what the control plane calls the cluster, the endpoints and the route of a Service's port.
func (p *population) clusterName(n int) string {
	return fmt.Sprintf("80|%s|%s.outbound", p.namespace, serviceName(n))
}

// populate makes the objects.
func populate(b *testing.B, client kubernetes.Interface, backends [podsEach]endpoint) *population {
	b.Helper()
	p := &population{client: client, namespace: newNamespace(b, client), backends: backends}
	waitServiceAccount(b, client, p.namespace)
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(16)
	for n := range services {
		group.Go(func() error { return p.create(ctx, n) })
	}
	for _, version := range []string{"v1", "v2"} {
		group.Go(func() error {
			_, err := client.AppsV1().Deployments(p.namespace).Create(ctx, deployment(version), metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	p.join(b)
	return p
}

// create makes a Service with its pods and endpoints.
func (p *population) create(ctx context.Context, n int) error {
	labels := map[string]string{ours: "bench"}
	if n < opened {
		labels[portKey] = "http"
	}
	service, err := p.client.CoreV1().Services(p.namespace).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(n), Labels: labels},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	p.addresses[n] = service.Spec.ClusterIP
	var pods [podsEach]string
	at := p.backends
	for i := range podsEach {
		pods[i] = podName(n, i)
		if n != weighted && (n < toggled || n >= toggled+toggles) {
			at[i] = nowhere(n, i)
		}
		_, err := p.client.CoreV1().Pods(p.namespace).Create(ctx, &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: pods[i], Labels: map[string]string{"app": serviceName(n)}}, Spec: neverScheduled(),
		}, metav1.CreateOptions{})
		if err != nil {
			return err
		}
	}
	_, err = p.client.DiscoveryV1().EndpointSlices(p.namespace).Create(ctx, slice(n, at, pods), metav1.CreateOptions{})
	return err
}

// neverScheduled is of a pod that exists for the API server only.
func neverScheduled() corev1.PodSpec {
	return corev1.PodSpec{SchedulerName: "none", Containers: []corev1.Container{{Name: "app", Image: "app"}}}
}

func deployment(version string) *appsv1.Deployment {
	labels := map[string]string{"app": "weighted", "version": version}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: version, Labels: map[string]string{weightKey: "1"}},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)),
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: neverScheduled()},
		},
	}
}

// slice is the endpoints of a Service: of its ports, 80 is at the port of each backend, so all have to be the same.
func slice(n int, at [podsEach]endpoint, pods [podsEach]string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Name: serviceName(n), Labels: map[string]string{
			discoveryv1.LabelServiceName: serviceName(n), discoveryv1.LabelManagedBy: "bench", ours: "bench",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(at[0].port)}},
	}
	for i, e := range at {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{e.address}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: pods[i]},
		})
	}
	return s
}

// join makes the endpoints of the weighted Service those of the Deployments' pods.
func (p *population) join(b *testing.B) {
	b.Helper()
	var names [podsEach]string
	for i, version := range []string{"v1", "v2"} {
		waitFor(b, "a pod of Deployment "+version, func(ctx context.Context) (bool, error) {
			pods, err := p.client.CoreV1().Pods(p.namespace).List(ctx, metav1.ListOptions{LabelSelector: "version=" + version})
			if err != nil || len(pods.Items) == 0 {
				return false, err
			}
			names[i] = pods.Items[0].Name
			return true, nil
		})
	}
	_, err := p.client.DiscoveryV1().EndpointSlices(p.namespace).Update(b.Context(), slice(weighted, p.backends, names), metav1.UpdateOptions{})
	if err != nil {
		b.Fatal(err)
	}
}

// token asks for a token of a pod, as the kubelet does.
func (p *population) token(ctx context.Context, pod string) (string, error) {
	answer, err := p.client.CoreV1().ServiceAccounts(p.namespace).CreateToken(ctx, "default", &authenticationv1.TokenRequest{
		Spec: authenticationv1.TokenRequestSpec{
			Audiences:         []string{"traffic-control"},
			ExpirationSeconds: new(int64(7200)),
			BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return answer.Status.Token, nil
}

// labelService sets a label of a Service, or removes it if the value is empty.
func (p *population) labelService(ctx context.Context, n int, key, value string) error {
	_, err := p.client.CoreV1().Services(p.namespace).Patch(ctx, serviceName(n), types.MergePatchType, labelPatch(key, value), metav1.PatchOptions{})
	return err
}

// labelDeployment does the same with a Deployment.
func (p *population) labelDeployment(ctx context.Context, name, key, value string) error {
	_, err := p.client.AppsV1().Deployments(p.namespace).Patch(ctx, name, types.MergePatchType, labelPatch(key, value), metav1.PatchOptions{})
	return err
}

func labelPatch(key, value string) []byte {
	if value == "" {
		return fmt.Appendf(nil, `{"metadata":{"labels":{%q:null}}}`, key)
	}
	return fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, key, value)
}

// waitServiceAccount waits until pods can be created.
func waitServiceAccount(b *testing.B, client kubernetes.Interface, namespace string) {
	b.Helper()
	waitFor(b, "ServiceAccount default", func(ctx context.Context) (bool, error) {
		_, err := client.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
}
