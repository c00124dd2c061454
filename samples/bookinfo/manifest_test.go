package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	sigsyaml "sigs.k8s.io/yaml"
)

const sampleImage = "ghcr.io/kubernetes-traffic-manager/bookinfo:"

// manifest reads the objects of bookinfo.yaml, which may have no field that Kubernetes does not know.
func manifest(t *testing.T) (services []corev1.Service, deployments []appsv1.Deployment) {
	t.Helper()
	text, err := os.ReadFile("bookinfo.yaml")
	if err != nil {
		t.Fatal(err)
	}
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	for {
		document := make([]byte, len(text))
		n, err := documents.Read(document)
		if errors.Is(err, io.EOF) {
			return services, deployments
		}
		if err != nil {
			t.Fatal(err)
		}
		var service corev1.Service
		var deployment appsv1.Deployment
		if err := sigsyaml.UnmarshalStrict(document[:n], &service); err == nil && service.Kind == "Service" {
			services = append(services, service)
		} else if err := sigsyaml.UnmarshalStrict(document[:n], &deployment); err == nil && deployment.Kind == "Deployment" {
			deployments = append(deployments, deployment)
		} else {
			t.Fatalf("neither a Service nor a Deployment: %v\n%s", err, document[:n])
		}
	}
}

// Every pod must start, as the role that its Service is named for, with the image that this version builds.
func TestManifestRunsWhatIsBuiltHere(t *testing.T) {
	text, err := os.ReadFile("../../charts/kubernetes-traffic-manager/Chart.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ AppVersion string }
	if err := sigsyaml.Unmarshal(text, &chart); err != nil {
		t.Fatal(err)
	}
	_, deployments := manifest(t)
	var names []string
	for _, deployment := range deployments {
		names = append(names, deployment.Name)
		container := deployment.Spec.Template.Spec.Containers[0]
		if !strings.HasPrefix(container.Image, sampleImage) {
			continue
		}
		if container.Image != sampleImage+chart.AppVersion {
			t.Errorf("%s runs %s, the chart is of version %s", deployment.Name, container.Image, chart.AppVersion)
		}
		config, err := parse(container.Args, io.Discard)
		if err != nil {
			t.Errorf("%s would not start: %v", deployment.Name, err)
		}
		if want := config.Role + "-" + config.Version; deployment.Name != want {
			t.Errorf("%s runs %s", deployment.Name, want)
		}
	}
	if want := []string{"productpage-v1", "details-v1", "reviews-v1", "reviews-v2", "reviews-v3", "ratings-v1", "client"}; !slices.Equal(names, want) {
		t.Errorf("deployments are %v, want %v", names, want)
	}
}

// A Service must reach its pods: on the port that they listen on, and all versions of them.
func TestServicesReachTheirPods(t *testing.T) {
	services, deployments := manifest(t)
	if len(services) != 4 {
		t.Fatalf("there are %d services, want 4", len(services))
	}
	for _, service := range services {
		reached := 0
		for _, deployment := range deployments {
			pod := deployment.Spec.Template
			if pod.Labels["app"] != service.Spec.Selector["app"] {
				continue
			}
			reached++
			port := pod.Spec.Containers[0].Ports[0]
			if service.Spec.Ports[0].Port != 9080 || service.Spec.Ports[0].TargetPort.String() != port.Name || port.ContainerPort != 9080 {
				t.Errorf("%s does not reach the port of %s", service.Name, deployment.Name)
			}
		}
		if want := map[bool]int{true: 3, false: 1}[service.Name == "reviews"]; reached != want {
			t.Errorf("%s reaches %d deployments, want %d", service.Name, reached, want)
		}
	}
}

// The sample must run in a namespace that enforces Pod Security "restricted".
func TestManifestIsRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	_, deployments := manifest(t)
	for _, deployment := range deployments {
		pod := deployment.Spec.Template.Spec
		result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &metav1.ObjectMeta{}, &pod))
		if !result.Allowed {
			t.Errorf("%s: %s", deployment.Name, result.ForbiddenDetail())
		}
	}
}
