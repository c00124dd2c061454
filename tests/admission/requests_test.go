package admission_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	deployment = `{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {selector: {matchLabels: {app: web}},
		template: {metadata: {labels: {app: web}}, spec: {containers: [{name: app, image: app}]}}}}`
	daemonSet = `{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: agent, labels: {traffic.envoy.enabled: "true"}}, spec: {selector: {matchLabels: {app: agent}},
		template: {metadata: {labels: {app: agent}}, spec: {containers: [{name: app, image: app}]}}}}`
	job = `{apiVersion: batch/v1, kind: Job, metadata: {name: once, labels: {traffic.envoy.enabled: "true"}},
		spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: app}]}}}}`
	cronJob = `{apiVersion: batch/v1, kind: CronJob, metadata: {name: nightly, labels: {traffic.envoy.enabled: "true"}},
		spec: {schedule: "0 3 * * *", jobTemplate: {spec: {template: {spec: {restartPolicy: Never, containers: [{name: app, image: app}]}}}}}}`
	service = `{apiVersion: v1, kind: Service, metadata: {name: web, labels: {traffic.port.80: http}}, spec: {ports: [{port: 80}]}}`
	ingress = `{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: web, annotations: {traffic.ingress/ssl-redirect: "false"}},
		spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}`
	slice = `{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: web, labels: {traffic.port.80: http}}, addressType: IPv4, endpoints: []}`
)

func pod(name, labels, more string) string {
	return fmt.Sprintf(`{apiVersion: v1, kind: Pod, metadata: {name: %s, labels: {%s}%s}, spec: {containers: [{name: app, image: app}]}}`, name, labels, more)
}

const (
	in    = "/inject"
	load  = "/workload"
	warn  = "/warn"
	owner = `, ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web, uid: "1", controller: true}]`
)

// TestAdmission shares one API server; the webhook is taken away last.
func TestAdmission(t *testing.T) {
	c := newCluster(t)
	t.Run("requests", c.whichRequestsAreSent)
	t.Run("spellings", c.everySpelling)
	t.Run("warnings", c.warningsReachTheTerminal)
	t.Run("sidecars", c.sidecarsOfOthers)
	t.Run("another webhook", c.anotherWebhook)
	t.Run("validity", c.validPodsStayValid)
	t.Run("away", c.webhookAway)
}

// whichRequestsAreSent: those that opt in, or change a label; nobody else depends on the webhook, and nobody is called twice
// for one request.
func (c *cluster) whichRequestsAreSent(t *testing.T) {
	on, off, yes := `traffic.envoy.enabled: "true"`, `traffic.envoy.enabled: "False"`, `traffic.envoy.enabled: "yes"`
	for _, step := range []struct {
		what, namespace string
		object          string // to create
		update, patch   string // or to change
		want            []string
	}{
		{what: "a pod that did not opt in", object: pod("plain", "app: web", "")},
		{what: "a pod that did", object: pod("labelled", on, ""), want: []string{in, warn}},
		{what: "a pod that a controller makes", object: pod("owned", on, owner), want: []string{in}},
		{what: "the kubelet writes its status", update: "Pod/labelled/status", patch: `{status: {message: x}}`},
		{what: "a scheduler annotates it", update: "Pod/labelled", patch: `{metadata: {annotations: {a: b}}}`},
		{what: "somebody weighs it", update: "Pod/labelled", patch: `{metadata: {labels: {traffic.endpoint.weight: "0"}}}`, want: []string{warn}},
		{what: "the last label goes", update: "Pod/labelled", patch: `{metadata: {labels: null}}`, want: []string{warn}},
		{what: "a mirror pod", object: strings.Replace(pod("mirror", on, `, annotations: {kubernetes.io/config.mirror: x}`), "spec: {", "spec: {nodeName: node1, ", 1), want: []string{warn}},
		{what: "a pod of the namespace", namespace: "joined", object: pod("plain", "app: web", ""), want: []string{in}},
		{what: "one that stays out", namespace: "joined", object: pod("out", off, ""), want: []string{warn}},
		{what: "one that joins twice", namespace: "joined", object: pod("both", on, ""), want: []string{in, warn}},
		{what: "one with a slip", namespace: "joined", object: pod("slip", yes, ""), want: []string{in, warn}},
		{what: "a slip alone", object: pod("slip", yes, ""), want: []string{warn}},
		{what: "kube-system", namespace: "kube-system", object: pod("labelled", on, ""), want: []string{warn}},
		{what: "the release itself", namespace: "traffic-system", object: pod("labelled", on, ""), want: []string{warn}},
		{what: "cert-manager", namespace: "cert-manager", object: pod("labelled", on, ""), want: []string{warn}},

		{what: "a deployment", object: deployment},
		{what: "its label", update: "Deployment/web", patch: `{metadata: {labels: {traffic.envoy.enabled: "true"}}}`, want: []string{warn, load}},
		{what: "the controller's annotation", update: "Deployment/web", patch: `{metadata: {annotations: {deployment.kubernetes.io/revision: "2"}}}`},
		{what: "its status", update: "Deployment/web/status", patch: `{status: {observedGeneration: 1}}`},
		{what: "its scale", update: "Deployment/web/scale", patch: `{spec: {replicas: 3}}`},
		{what: "a new image", update: "Deployment/web", patch: `{spec: {template: {spec: {containers: [{name: app, image: new}]}}}}`},
		{what: "another label", update: "Deployment/web", patch: `{metadata: {labels: {team: a}}}`, want: []string{warn}},
		{what: "a rollback drops the copy", update: "Deployment/web", patch: `{spec: {template: {metadata: {labels: {traffic.envoy.enabled: null}, annotations: null}}}}`, want: []string{load}},
		{what: "the label goes", update: "Deployment/web", patch: `{metadata: {labels: {traffic.envoy.enabled: null}}}`, want: []string{warn, load}},
		{what: "an unlabelled deployment changes", update: "Deployment/web", patch: `{spec: {replicas: 1}}`},
		{what: "its exclusions", update: "Deployment/web", patch: `{spec: {template: {metadata: {annotations: {traffic.envoy.exclude-port: "1"}}}}}`, want: []string{warn}},
		{what: "another change of it", update: "Deployment/web", patch: `{spec: {replicas: 2}}`},
		{what: "a labelled daemon set", object: daemonSet, want: []string{warn, load}},
		{what: "a job", object: job, want: []string{warn, load}},
		{what: "a cron job", object: cronJob, want: []string{warn, load}},
		{what: "a workload of the release", namespace: "traffic-system", object: daemonSet, want: []string{warn}},

		{what: "a service", object: service, want: []string{warn}},
		{what: "its selector", update: "Service/web", patch: `{spec: {selector: {app: web}}}`, want: []string{warn}},
		{what: "its annotations", update: "Service/web", patch: `{metadata: {annotations: {a: b}}}`},
		{what: "its load balancer", update: "Service/web/status", patch: `{status: {conditions: []}}`},
		{what: "its endpoints", object: slice},
		{what: "a namespace", update: "Namespace/shop", patch: `{metadata: {labels: {traffic.envoy.enabled: "false"}}}`, want: []string{warn}},
		{what: "a namespace that is never injected", update: "Namespace/kube-system", patch: `{metadata: {labels: {traffic.envoy.enabled: "true"}}}`, want: []string{warn}},
		{what: "a prefix with a slip", update: "Service/web", patch: `{metadata: {labels: {traffic.port.80: null, trafic.port.80: http}}}`, want: []string{warn}},
		{what: "the slip alone", object: strings.NewReplacer("web", "slip", "traffic", "Traffik").Replace(service), want: []string{warn}},
		{what: "labels of others", object: strings.NewReplacer("web", "others", "traffic.port.80", "traefik.port.80").Replace(service)},
		{what: "what they change", update: "Service/others", patch: `{spec: {selector: {app: web}}}`},
		{what: "labels of others under a domain", object: strings.NewReplacer("web", "domain", "traffic.port.80", "trafic.example.com/port").Replace(service)},
		{what: "an ingress", object: ingress, want: []string{warn}},
		{what: "its backend", update: "Ingress/web", patch: `{spec: {defaultBackend: {service: {name: web, port: {number: 81}}}}}`},
		{what: "its address", update: "Ingress/web/status", patch: `{status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}}`},
		{what: "the ingress of others", object: strings.NewReplacer("name: web", "name: others", "traffic.ingress", "traefik.ingress.kubernetes.io").Replace(ingress)},
		{what: "an annotation of others", update: "Ingress/others", patch: `{metadata: {annotations: {cert-manager.io/issuer: a, trafic.example.com/ssl-redirect: b}}}`},
		{what: "an ingress with a slip", update: "Ingress/others", patch: `{metadata: {annotations: {trafic.ingress/ssl-redirect: "false"}}}`, want: []string{warn}},
		{what: "an annotation of ingresses on a service", update: "Service/others", patch: `{metadata: {annotations: {traffic.ingress/ssl-redirect: "false"}}}`},
		{what: "another label of it", update: "Namespace/shop", patch: `{metadata: {annotations: {a: b}}}`},
	} {
		namespace := step.namespace
		if namespace == "" {
			namespace = "shop"
		}
		var err error
		if step.object != "" {
			err = c.create(namespace, step.object)
		} else {
			err = c.update(namespace, step.update, step.patch)
		}
		if err != nil {
			t.Errorf("%s: %v", step.what, err)
		}
		got := c.calls.take()
		if step.update != "" {
			got = slices.Compact(got) // the API server starts over when its cache was behind
		}
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: the API server called %q, want %q", step.what, got, step.want)
		}
	}
}

// everySpelling: each of the spellings of true injects a pod, each of false keeps it out of a namespace that opted in.
func (c *cluster) everySpelling(t *testing.T) {
	for word, want := range map[string]bool{"true": true, "false": false} {
		for n := range 1 << len(word) {
			value := []byte(word)
			for i := range value {
				if n>>i&1 == 1 {
					value[i] -= 'a' - 'A'
				}
			}
			name := fmt.Sprintf("%s-%d", word, n)
			namespace := map[bool]string{true: "shop", false: "joined"}[want]
			if err := c.create(namespace, pod(name, fmt.Sprintf("traffic.envoy.enabled: %q", value), owner)); err != nil {
				t.Fatal(err)
			}
			created, err := c.client.CoreV1().Pods(namespace).Get(t.Context(), name, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if got := len(created.Spec.InitContainers) > 0; got != want {
				t.Errorf("%s: injected: %t, want %t", value, got, want)
			}
		}
	}
}

// warningsReachTheTerminal: what the webhook warns of comes with the API server's own answer.
func (c *cluster) warningsReachTheTerminal(t *testing.T) {
	c.warnings.take()
	if err := c.update("shop", "Service/web", `{metadata: {labels: {traffic.port.80: htp}}}`); err != nil {
		t.Fatal(err)
	}
	want := `service web: label traffic.port.80="htp": expected http, http2, grpc, tcp or direct; in force: the port is blocked`
	if got := c.warnings.take(); !slices.Equal(got, []string{want}) {
		t.Errorf("warnings %q, want %q", got, want)
	}
	if err := c.create("shop", strings.Replace(service, "web", "moved", 1)); err != nil {
		t.Fatal(err)
	}
	if err := c.update("shop", "Service/moved", `{spec: {ports: [{port: 81}]}}`); err != nil {
		t.Fatal(err)
	}
	want = `service moved: label traffic.port.80="http": the Service has no port 80, only 81; in force: nothing is opened`
	if got := c.warnings.take(); !slices.Equal(got, []string{want}) {
		t.Errorf("of a Service's port that moves: warnings %q, want %q", got, want)
	}
	if err := c.update("shop", "Ingress/web", `{metadata: {annotations: {traffic.ingress/ssl-redirect: maybe, traffic.ingress/ssl-redirct: "false", trafic.ingress/ssl-redirect: "false"}}}`); err != nil {
		t.Fatal(err)
	}
	annotations := []string{
		`ingress web: annotation traffic.ingress/ssl-redirct="false": no such annotation, did you mean traffic.ingress/ssl-redirect?; in force: nothing`,
		`ingress web: annotation traffic.ingress/ssl-redirect="maybe": expected true or false; in force: true`,
		`ingress web: annotation trafic.ingress/ssl-redirect="false": no such annotation, did you mean traffic.ingress/ssl-redirect?; in force: nothing`,
	}
	if got := c.warnings.take(); !slices.Equal(got, annotations) {
		t.Errorf("of an Ingress: warnings %q, want %q", got, annotations)
	}
	err := c.create("shop", strings.Replace(pod("clash", `traffic.envoy.enabled: "true"`, ""), "image: app", "image: app, securityContext: {runAsUser: 1337}", 1))
	if err == nil || !strings.Contains(err.Error(), "container app has runAsUser 1337") {
		t.Errorf("a clash: %v, want a refusal that names it", err)
	}
}

// webhookAway: without it no pod that opted in runs unmanaged, and nobody else is held up.
func (c *cluster) webhookAway(t *testing.T) {
	c.webhook.Close()
	if err := c.create("shop", pod("unmanaged", `traffic.envoy.enabled: "true"`, "")); err == nil {
		t.Error("a pod that opted in was created without its sidecar")
	}
	if err := c.update("shop", "Deployment/web", `{metadata: {labels: {traffic.envoy.enabled: "true"}}}`); err == nil {
		t.Error("a workload's label was taken, and will never act")
	}
	for what, err := range map[string]error{
		"another pod":       c.create("shop", pod("other", "app: web", "")),
		"another label":     c.update("shop", "Deployment/web", `{metadata: {labels: {traffic.endpoint.weight: "5"}}}`),
		"a service's label": c.update("shop", "Service/web", `{metadata: {labels: {traffic.port.80: tcp}}}`),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}
