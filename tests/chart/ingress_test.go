package chart

import (
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// gatewayPod is what the chart makes of the gateway with some values.
func gatewayPod(t *testing.T, arguments ...string) corev1.PodSpec {
	t.Helper()
	pod, there := pods(t, template(t, arguments...))["traffic-ingress"]
	if !there {
		t.Fatal("there is no gateway")
	}
	return pod.Spec
}

// Envoy is stopped once traffic-drain has ended, which must be before the kubelet kills both.
func TestGatewayDrainsBeforeItIsKilled(t *testing.T) {
	pod := gatewayPod(t, "--set", "ingress.terminationGracePeriodSeconds=90")
	if *pod.TerminationGracePeriodSeconds != 90 {
		t.Errorf("the kubelet waits %d s", *pod.TerminationGracePeriodSeconds)
	}
	envoy, drain := pod.InitContainers[0], pod.Containers[0]
	if envoy.RestartPolicy == nil || *envoy.RestartPolicy != corev1.ContainerRestartPolicyAlways || drain.Name != "traffic-drain" {
		t.Errorf("%s is stopped with %s, not after it", envoy.Name, drain.Name)
	}
	if !slices.Contains(drain.Args, "--timeout=85s") {
		t.Errorf("it drains with %q", drain.Args)
	}
	// What Envoy takes as its drain time, traffic-drain must know.
	at := slices.Index(envoy.Args, "--drain-time-s")
	if at < 0 || !slices.Contains(drain.Args, "--close="+envoy.Args[at+1]+"s") {
		t.Errorf("Envoy drains with %q, traffic-drain with %q", envoy.Args[:6], drain.Args)
	}
}

// Whoever may speak as the gateway is told private keys: traffic-control must expect the account that the pods have.
func TestGatewayIsWhomTheControlPlaneExpects(t *testing.T) {
	rendered := template(t)
	all := pods(t, rendered)
	control, gateway := all["traffic-control"].Spec.Containers[0], all["traffic-ingress"].Spec
	services := decode[corev1.Service](t, rendered, "Service")
	at := slices.IndexFunc(services, func(s corev1.Service) bool { return s.Name == "traffic-ingress" })
	if at < 0 {
		t.Fatal("there is no Service")
	}
	for _, want := range []string{"--gateway-service-account=" + gateway.ServiceAccountName, "--gateway-service=" + services[at].Name} {
		if !slices.Contains(control.Args, want) {
			t.Errorf("traffic-control has no %s", want)
		}
	}
	for i, port := range services[at].Spec.Ports {
		flag := "--gateway-" + []string{"http", "https"}[i] + "-port=" + port.TargetPort.String()
		if port.Port != []int32{80, 443}[i] || !slices.Contains(control.Args, flag) {
			t.Errorf("port %d of the Service leads to %s, and traffic-control has no %s", port.Port, port.TargetPort.String(), flag)
		}
	}
	classes := decode[networkingv1.IngressClass](t, rendered, "IngressClass")
	if len(classes) != 1 || classes[0].Name != "traffic-manager" || !slices.Contains(control.Args, "--ingress-controller="+classes[0].Spec.Controller) {
		t.Errorf("classes %+v, but traffic-control is %q", classes, control.Args)
	}
}

// Of two that set the number of replicas, each helm upgrade would fail, or undo what the autoscaler did.
func TestGatewayIsScaledByOthers(t *testing.T) {
	rendered := template(t, "--set", "ingress.replicas=null")
	deployments := decode[appsv1.Deployment](t, rendered, "Deployment")
	i := slices.IndexFunc(deployments, func(d appsv1.Deployment) bool { return d.Name == "traffic-ingress" })
	if i < 0 || deployments[i].Spec.Replicas != nil {
		t.Errorf("it is not there, or its number of replicas is: %+v", deployments)
	}
	budgets := decode[policyv1.PodDisruptionBudget](t, rendered, "PodDisruptionBudget")
	if !slices.ContainsFunc(budgets, func(b policyv1.PodDisruptionBudget) bool { return b.Name == "traffic-ingress" }) {
		t.Error("no disruption budget, though there may be several")
	}
}

// A host port is taken once a node: with one more replica than nodes a rollout would never end.
func TestGatewayWithHostPortsRolls(t *testing.T) {
	for port, surge := range map[string]string{"0": "1", "443": "0"} {
		rendered := template(t, "--set", "ingress.hostPorts.https="+port)
		for _, deployment := range decode[appsv1.Deployment](t, rendered, "Deployment") {
			if rolling := deployment.Spec.Strategy.RollingUpdate; deployment.Name == "traffic-ingress" && rolling.MaxSurge.String() != surge {
				t.Errorf("with the host port %s it rolls with %s more", port, rolling.MaxSurge)
			}
		}
	}
}

// Secrets of all namespaces are much to let a program read: only one that serves Ingresses may.
func TestOnlyAGatewayTakesTheRightToSecrets(t *testing.T) {
	for enabled, want := range map[string]bool{"true": true, "false": false} {
		var got bool
		for _, role := range decode[rbacv1.ClusterRole](t, template(t, "--set", "ingress.enabled="+enabled), "ClusterRole") {
			for _, right := range rights(role.Rules) {
				got = got || strings.HasSuffix(right, "/secrets")
			}
		}
		if got != want {
			t.Errorf("with ingress.enabled=%s Secrets are read: %t", enabled, got)
		}
	}
}

// A wrong value of the gateway must be an error of helm that names it.
func TestWrongValuesOfTheGatewayAreRefused(t *testing.T) {
	for set, want := range map[string]string{
		"ingress.service.type=ExternalName":              "at '/ingress/service/type': value must be one of",
		"ingress.service.externalTrafficPolicy=Some":     "at '/ingress/service/externalTrafficPolicy': value must be one of",
		"ingress.service.nodePorts.http=65536":           "at '/ingress/service/nodePorts/http': maximum",
		"ingress.hostPorts.http=-1":                      "at '/ingress/hostPorts/http': minimum",
		"ingress.replicas=0":                             "at '/ingress/replicas'",
		"ingress.trustedHops=256":                        "at '/ingress/trustedHops': maximum",
		"ingress.idleTimeout=0s":                         "at '/ingress/idleTimeout': '0s' does not match pattern",
		"ingress.accessLogFormat=xml":                    "at '/ingress/accessLogFormat': value must be one of 'text', 'json'",
		"ingress.tls.minimum=1.1":                        "at '/ingress/tls/minimum'",
		"ingress.tls.defaultCertificate=wildcard":        "at '/ingress/tls/defaultCertificate': 'wildcard' does not match pattern",
		"ingress.terminationGracePeriodSeconds=10":       "at '/ingress/terminationGracePeriodSeconds': minimum: got 10, want 40",
		"ingress.drainDelay=10":                          "at '/ingress/drainDelay': got number, want string",
		"ingress.service.loadBalancerSourceRanges={any}": "at '/ingress/service/loadBalancerSourceRanges/0': 'any' does not match pattern",
		"ingress.className=Edge":                         "at '/ingress/className': 'Edge' does not match pattern",
		"ingress.hostPort=80":                            "additional properties 'hostPort' not allowed",
	} {
		_, complaint, err := run(t, "template", "traffic", chartDir, "-n", namespace, "--set", set)
		if err == nil || !strings.Contains(complaint, want) {
			t.Errorf("--set %s: helm says %v\n%s\nwant %s", set, err, complaint, want)
		}
	}
}
