package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// release is where TestInstallation installs the product: not where the documentation does, nor with its ports.
const (
	release     = "platform"
	envoyUID    = "2337"
	controlPort = 18001
	proxyPort   = 10001
	statsPort   = 8901
	metricsPort = 9091 // of Prometheus
	tracesPort  = 9412 // of Zipkin
)

// TestInstallation installs a version on a cluster of its own, replaces it by this one under running pods, takes that away, and
// installs it again.
func TestInstallation(t *testing.T) {
	s := newSite(t, "install")
	files := s.cniFiles(t)
	if err := s.cluster.Zipkin(t.Context()); err != nil {
		t.Fatal(err)
	}
	before, now := s.versionBefore(t), s.thisVersion()
	s.enforcePolicies(t)
	network := s.likeCilium(t)
	s.install(t, before, withZipkin)
	t.Run("the network add-on is named", func(t *testing.T) { addOnNamed(t, s) })
	s.notLikeCilium(t, network)
	s.kubectl(t, "create", "namespace", "shop")
	s.apply(t, shop)
	s.apply(t, olderPod(t, s))
	s.kubectl(t, "wait", "-n", "shop", "--for=condition=Ready", "pod", "--all", "--timeout=60s")
	t.Run("upgrade and rollback", func(t *testing.T) { upgrades(t, s, now) })

	t.Run("F01 the API server trusts the webhooks", func(t *testing.T) { trusted(t, s) })
	t.Run("helm test", func(t *testing.T) { helmTest(t, s) })
	t.Run("network policies", func(t *testing.T) { restricted(t, s) })
	t.Run("F02 pods of another namespace are served", func(t *testing.T) { served(t, s) })
	traced(t, s)
	t.Run("F04 ports", func(t *testing.T) { ports(t, s) })
	t.Run("F05 port of Prometheus", func(t *testing.T) { prometheus(t, s) })
	t.Run("F06 uid", func(t *testing.T) { uid(t, s) })
	t.Run("F10 rights", func(t *testing.T) { rights(t, s) })
	t.Run("F106 Ingresses without a class", func(t *testing.T) { classless(t, s) })
	t.Run("F05, F83 Zipkin of the chart", func(t *testing.T) { zipkin(t, s) })
	t.Run("drain", func(t *testing.T) { drained(t, s) })
	t.Run("F08 uninstall and install again", func(t *testing.T) { reinstalls(t, s, now, files) })
	if *slow {
		t.Run("reboot", func(t *testing.T) { reboot(t, s, network) })
		t.Run("two releases", func(t *testing.T) { twoReleases(t, s) })
		t.Run("user namespaces", func(t *testing.T) { userNamespaces(t, s) })
		t.Run("crowded node", func(t *testing.T) { crowdedNode(t, s) })
		t.Run("full node", func(t *testing.T) { fullNode(t, s, network) })
		t.Run("rights go first", func(t *testing.T) { rightsFirst(t, s, files) })
	}
}

// withZipkin is a value of the chart.
const withZipkin = "zipkin.enabled=true"

// install installs a version, or goes over to it.
func (s *site) install(t *testing.T, v version, values ...string) {
	t.Helper()
	values = append(values, fmt.Sprintf(
		"port.trafficControl=%d,port.envoyProxy=%d,port.envoyAdmin=%d,port.prometheusPort=%d,port.trafficZipkin=%d,proxy.uid=%s,"+
			"tracing.address=,ingress.watchIngressWithoutClass=false,networkPolicies.enabled=true",
		controlPort, proxyPort, statsPort, metricsPort, tracesPort, envoyUID))
	s.helm(t, "upgrade", "--install", "traffic", v.chart, "-n", release, "--create-namespace", "--wait", "--timeout=3m",
		"-f", "tests/cluster/values.yaml", "-f", v.images, "--skip-schema-validation="+fmt.Sprint(v.older), "--set", strings.Join(values, ","))
}

// trusted checks what F01 promises when helm returns.
func trusted(t *testing.T, s *site) {
	for _, kind := range []string{"mutating", "validating"} {
		bundles := s.kubectl(t, "get", kind+"webhookconfiguration", "traffic-webhook", "-o",
			`jsonpath={range .webhooks[*]}{.name} {.clientConfig.caBundle}{"\n"}{end}`)
		for line := range strings.Lines(bundles) {
			if len(strings.Fields(line)) != 2 {
				t.Errorf("%s webhook without caBundle: %s", kind, line)
			}
		}
	}
	for _, pod := range s.pods(t) {
		if !isReady(&pod) {
			t.Errorf("helm waited, and pod %s is not ready", pod.Name)
		}
	}
}

func served(t *testing.T, s *site) {
	if got := s.status(t, "shop", "client", "http://web/health"); got != "404" {
		t.Errorf("a closed port answers %s", got)
	}
	s.kubectl(t, "label", "service", "-n", "shop", "web", "traffic.port.80=http")
	eventually(t, "200", func() string { return s.status(t, "shop", "client", "http://web/health") })
	if got := s.status(t, "shop", "plain", "http://web:81/health"); got != "200" {
		t.Errorf("a pod that did not opt in gets %s from a closed port", got)
	}
}

// classless checks that an Ingress without a class is left to others when the values say so; the local cluster of the scripts
// serves them.
func classless(t *testing.T, s *site) {
	s.kubectl(t, "create", "ingress", "-n", "shop", "classless", "--rule=classless.example/*=web:80")
	s.kubectl(t, "create", "ingress", "-n", "shop", "ours", "--class=traffic-manager", "--rule=ours.example/*=web:80")
	address := s.kubectl(t, "get", "service", "-n", release, "traffic-ingress", "-o", "jsonpath={.status.loadBalancer.ingress[0].ip}")
	shown := func(name string) string {
		return s.kubectl(t, "get", "ingress", "-n", "shop", name, "-o", "jsonpath={.status.loadBalancer.ingress[*].ip}")
	}
	eventually(t, address, func() string { return shown("ours") })
	if got := shown("classless"); got != "" {
		t.Errorf("an Ingress without a class shows %s", got)
	}
	status := func(host string) string {
		return s.kubectl(t, "exec", "-n", "shop", "plain", "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}",
			"-H", "Host: "+host, "http://traffic-ingress."+release+"/health")
	}
	eventually(t, "200", func() string { return status("ours.example") })
	if got := status("classless.example"); got != "404" {
		t.Errorf("an Ingress without a class is served: %s", got)
	}
}

func ports(t *testing.T, s *site) {
	if got := s.kubectl(t, "get", "service", "-n", release, "traffic-control", "-o", "jsonpath={.spec.ports[*].port}"); got != fmt.Sprint(controlPort) {
		t.Errorf("Service traffic-control has port %s", got)
	}
	address := s.kubectl(t, "get", "pod", "-n", "shop", "client", "-o", "jsonpath={.status.podIP}")
	for path, want := range map[string]string{"/ready": "200", "/stats/prometheus": "200", "/quitquitquit": "404"} {
		if got := s.status(t, "shop", "plain", fmt.Sprintf("http://%s:%d%s", address, statsPort, path)); got != want {
			t.Errorf("%s answers %s to another pod, want %s", path, got, want)
		}
	}
	listening := s.kubectl(t, "exec", "-n", "shop", "client", "-c", "app", "--", "cat", "/proc/net/tcp", "/proc/net/tcp6")
	for port, want := range map[int]bool{proxyPort: true, 10000: false, 8900: false} {
		if got := strings.Contains(listening, fmt.Sprintf(":%04X ", port)); got != want {
			t.Errorf("a socket with port %d in the pod: %t, want %t", port, got, want)
		}
	}
}

func uid(t *testing.T, s *site) {
	pids, err := processes(s.containerID(t, "client", "traffic-envoy"))
	if err != nil {
		t.Fatal(err)
	}
	for _, pid := range pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			t.Fatal(err)
		}
		for _, ids := range []string{"Uid", "Gid"} {
			if want := ids + ":" + strings.Repeat("\t"+envoyUID, 4) + "\n"; !bytes.Contains(status, []byte(want)) {
				t.Errorf("process %d of Envoy has another %s than %s:\n%s", pid, ids, envoyUID, status)
			}
		}
	}
}

// rights asks the API server what the product's accounts may do.
func rights(t *testing.T, s *site) {
	for _, test := range []struct {
		account, verb, group, resource, namespace string // resource may be RESOURCE/NAME
		want                                      bool
	}{
		{"traffic-control", "list", "", "pods", "", true},
		{"traffic-control", "watch", "discovery.k8s.io", "endpointslices", "", true},
		{"traffic-control", "create", "authentication.k8s.io", "tokenreviews", "", true},
		{"traffic-control", "update", "", "pods", "shop", false},
		{"traffic-control", "patch", "", "services", "shop", false},
		{"traffic-control", "get", "", "secrets", release, false},
		{"traffic-control", "list", "", "secrets", "", true}, // certificates of Ingresses
		{"traffic-control", "patch", "networking.k8s.io", "ingresses", "", false},
		{"traffic-ingress", "*", "*", "*", "", false},
		{"traffic-control", "*", "*", "*", "", false},
		{"traffic-node", "list", "", "pods", "", true},
		{"traffic-node", "get", "apps", "daemonsets/traffic-node", release, true},
		{"traffic-node", "get", "apps", "daemonsets/other", release, false},
		{"traffic-node", "get", "", "configmaps/cilium-config", "kube-system", true},
		{"traffic-node", "get", "", "configmaps/other", "kube-system", false},
		{"traffic-node", "list", "", "configmaps", "kube-system", false},
		{"traffic-node", "get", "", "configmaps/cilium-config", "shop", false},
		{"traffic-node", "get", "crd.projectcalico.org", "felixconfigurations/default", "", true},
		{"traffic-node", "list", "crd.projectcalico.org", "felixconfigurations", "", false},
		{"traffic-node", "delete", "", "pods", "shop", false},
		{"traffic-node", "get", "", "secrets", release, false},
		{"traffic-node", "*", "*", "*", "", false},
		{"traffic-webhook", "list", "", "pods", "", false},
		{"traffic-webhook", "get", "", "secrets", release, false},
		{"traffic-webhook", "*", "*", "*", "", false},
	} {
		resource, name, _ := strings.Cut(test.resource, "/")
		review, err := s.client.AuthorizationV1().SubjectAccessReviews().Create(t.Context(), &authorizationv1.SubjectAccessReview{
			Spec: authorizationv1.SubjectAccessReviewSpec{
				User:   "system:serviceaccount:" + release + ":" + test.account,
				Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + release, "system:authenticated"},
				ResourceAttributes: &authorizationv1.ResourceAttributes{
					Verb: test.verb, Group: test.group, Resource: resource, Name: name, Namespace: test.namespace,
				},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		if review.Status.Allowed != test.want {
			t.Errorf("%s may %s %s in namespace %q: %t, want %t", test.account, test.verb, test.resource, test.namespace, review.Status.Allowed, test.want)
		}
	}
}

// cniFiles are the node's CNI configurations with their text, and its plugins.
func (s *site) cniFiles(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, folder := range []string{"etc/cni/net.d", "opt/cni/bin"} {
		entries, err := os.ReadDir(filepath.Join(s.node, folder))
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range entries {
			name := filepath.Join(folder, entry.Name())
			files[name] = ""
			if folder == "opt/cni/bin" {
				continue
			}
			text, err := os.ReadFile(filepath.Join(s.node, name))
			if err != nil && !os.IsNotExist(err) {
				t.Fatal(err)
			}
			files[name] = string(text)
		}
	}
	return files
}

// shop is what the product's users run.
const shop = `
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: a, port: 80, targetPort: 9080}, {name: b, port: 81, targetPort: 9080}, {name: c, port: 82, targetPort: 9080}]
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: localhost:5000/bookinfo:0.1.0, args: [details], readinessProbe: {httpGet: {path: /health, port: 9080}, periodSeconds: 1}}]
---
apiVersion: v1
kind: Service
metadata: {name: echo, namespace: shop, labels: {traffic.port.80: http, traffic.port.81: tcp}}
spec:
  selector: {app: echo}
  ports: [{name: a, port: 80, targetPort: 8080}, {name: b, port: 81, targetPort: 8080}]
---
apiVersion: v1
kind: Pod
metadata: {name: echo, namespace: shop, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: localhost:5000/echo:0.1.0, resources: {requests: {cpu: 100m}}, readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1, failureThreshold: 60}}]
---
apiVersion: v1
kind: Pod
metadata: {name: plain, namespace: shop}
spec:
  containers: [{name: app, image: localhost:5000/curl, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {traffic.envoy.enabled: "true"}, annotations: {traffic.envoy.requests: cpu=100m}}
spec:
  containers: [{name: app, image: localhost:5000/curl, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: leaving, namespace: shop, labels: {traffic.envoy.enabled: "true"}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: localhost:5000/curl, command: [sleep, infinity]}]
---
apiVersion: v1
kind: Pod
metadata: {name: crashing, namespace: shop, labels: {traffic.envoy.enabled: "true"}}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: app, image: localhost:5000/curl, command: [sleep, infinity]}]
`
