package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Where the local cluster has the product.
const (
	product   = "traffic-system"
	adminPort = "8900"
)

// An envoy is one proxy of the local cluster, the sidecar of a pod or a pod of the gateway.
type envoy struct {
	pod *corev1.Pod
	// node is the network namespace of the node, network the one whose connections the proxy gets.
	node, network string
	// address is where these go, host what they ask for.
	address, host string
}

// envoys are the proxies that a Service concerns: the sidecars of its namespace, and the gateway's, which serves it as
// NAMESPACE.example.
func (l local) envoys(ctx context.Context, namespace, service string) ([]envoy, error) {
	client, err := l.cluster.Client()
	if err != nil {
		return nil, err
	}
	root, err := l.cluster.Root()
	if err != nil {
		return nil, err
	}
	target, err := client.CoreV1().Services(namespace).Get(ctx, service, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	gateways, err := client.CoreV1().Pods(product).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=traffic-ingress"})
	if err != nil {
		return nil, err
	}
	node := filepath.Join(filepath.Dir(root), "ns/net")
	var found []envoy
	for _, pod := range slices.DeleteFunc(append(pods.Items, gateways.Items...), without) {
		e := envoy{pod: &pod, node: node, network: node, address: net.JoinHostPort(pod.Status.PodIP, "8080"), host: namespace + ".example"}
		if pod.Namespace == namespace {
			if e.network, err = networkNamespace(root, &pod); err != nil {
				return nil, err
			}
			e.address, e.host = net.JoinHostPort(target.Spec.ClusterIP, fmt.Sprint(target.Spec.Ports[0].Port)), service
		}
		found = append(found, e)
	}
	return found, nil
}

// without reports that a pod has no Envoy, or none that has its configuration.
func without(pod corev1.Pod) bool {
	return !isReady(&pod) || !slices.ContainsFunc(pod.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == "traffic-envoy" })
}

func isReady(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

func networkNamespace(root string, pod *corev1.Pod) (string, error) {
	paths, err := networkOf(root, pod.Namespace, pod.Name)
	if err != nil {
		return "", err
	}
	for _, path := range paths {
		if strings.HasPrefix(path, filepath.Join(root, "run/netns")) {
			return path, nil
		}
	}
	return "", fmt.Errorf("the node knows no network namespace of pod %s", pod.Name)
}

// dialer connects from a network namespace. Processes of this machine are like others there, but for the proxy's own user.
func dialer(network string) func(ctx context.Context, _, address string) (net.Conn, error) {
	return func(ctx context.Context, _, address string) (conn net.Conn, err error) {
		entered := ns.WithNetNSPath(network, func(ns.NetNS) error {
			var d net.Dialer
			conn, err = d.DialContext(ctx, "tcp", address)
			return err
		})
		return conn, entered
	}
}

// ask sends one request, on a connection of its own, and returns the names of the cookies that the answer sets.
func (e envoy) ask(ctx context.Context) (cookies []string, err error) {
	response, err := get(ctx, e.network, "http://"+e.address+"/health", e.host)
	if err != nil {
		return nil, err
	}
	response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, errors.New(response.Status)
	}
	for _, cookie := range response.Cookies() {
		cookies = append(cookies, cookie.Name)
	}
	return cookies, nil
}

func get(ctx context.Context, network, url, host string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	request.Host = host
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DialContext: dialer(network)}}
	return client.Do(request)
}

// streams is how many streams the proxy has opened to a control plane since it was started. It must have one.
func (e envoy) streams(ctx context.Context) (int, error) {
	response, err := get(ctx, e.node, "http://"+net.JoinHostPort(e.pod.Status.PodIP, adminPort)+"/stats/prometheus", "")
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(response.Body)
	if err != nil {
		return 0, fmt.Errorf("statistics of %s: %w", e.pod.Name, err)
	}
	connected := families["envoy_control_plane_connected_state"].GetMetric()
	if len(connected) != 1 || connected[0].GetGauge().GetValue() != 1 {
		return 0, fmt.Errorf("the Envoy of %s has no stream to a control plane", e.pod.Name)
	}
	for _, metric := range families["envoy_cluster_upstream_rq_total"].GetMetric() {
		for _, label := range metric.GetLabel() {
			if label.GetName() == "envoy_cluster_name" && label.GetValue() == "traffic-control" {
				return int(metric.GetCounter().GetValue()), nil
			}
		}
	}
	return 0, fmt.Errorf("the Envoy of %s does not count its streams", e.pod.Name)
}
