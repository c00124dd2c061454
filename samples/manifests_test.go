// Package samples holds what all samples have in common: manifests that run as they are, anywhere.
package samples

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

const ours = "ghcr.io/kubernetes-traffic-manager/"

// A manifest is one object of a sample.
type manifest struct {
	object runtime.Object
	meta   metav1.Object
	kind   string
}

// manifests reads the objects of each sample, which may have no field that Kubernetes does not know, by the sample's folder.
func manifests(t *testing.T) map[string][]manifest {
	t.Helper()
	files, err := filepath.Glob("*/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no manifests: %v", err)
	}
	all := map[string][]manifest{}
	for _, file := range files {
		if filepath.Base(file) == "kustomization.yaml" {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[filepath.Dir(file)] = append(all[filepath.Dir(file)], parse(t, file, text)...)
	}
	return all
}

func parse(t *testing.T, file string, text []byte) (objects []manifest) {
	t.Helper()
	decoder := serializer.NewCodecFactory(clientscheme.Scheme, serializer.EnableStrict).UniversalDeserializer()
	documents := yaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(text)))
	defer documents.Close()
	for {
		document := make([]byte, len(text))
		n, err := documents.Read(document)
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		object, kind, err := decoder.Decode(document[:n], nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, manifest{object: object, meta: object.(metav1.Object), kind: kind.Kind})
	}
}

// template returns the pods that the object makes, nil if it makes none.
func (m manifest) template() *corev1.PodTemplateSpec {
	switch o := m.object.(type) {
	case *appsv1.Deployment:
		return &o.Spec.Template
	case *appsv1.StatefulSet:
		return &o.Spec.Template
	case *appsv1.DaemonSet:
		return &o.Spec.Template
	case *corev1.Pod:
		return &corev1.PodTemplateSpec{ObjectMeta: o.ObjectMeta, Spec: o.Spec}
	}
	return nil
}

// A sample must run in a namespace that enforces Pod Security "restricted".
func TestPodsAreRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	restricted := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for sample, objects := range manifests(t) {
		for _, o := range objects {
			pod := o.template()
			if pod == nil {
				continue
			}
			result := policy.AggregateCheckResults(evaluator.EvaluatePod(restricted, &pod.ObjectMeta, &pod.Spec))
			if !result.Allowed {
				t.Errorf("%s: %s %s: %s", sample, o.kind, o.meta.GetName(), result.ForbiddenDetail())
			}
		}
	}
}

// A sample runs the images of this version, and its kustomization names all of them for another registry.
func TestImagesAreOfThisVersion(t *testing.T) {
	var chart struct{ AppVersion string }
	read(t, "../charts/kubernetes-traffic-manager/Chart.yaml", &chart)
	for sample, objects := range manifests(t) {
		used := map[string]bool{}
		for _, o := range objects {
			pod := o.template()
			if pod == nil {
				continue
			}
			for _, container := range slices.Concat(pod.Spec.InitContainers, pod.Spec.Containers) {
				name, version, _ := strings.Cut(container.Image, ":")
				used[name] = true
				if strings.HasPrefix(name, ours) && version != chart.AppVersion {
					t.Errorf("%s: %s runs %s, the chart is of version %s", sample, o.meta.GetName(), container.Image, chart.AppVersion)
				}
			}
		}
		var kustomization struct{ Images []struct{ Name string } }
		read(t, filepath.Join(sample, "kustomization.yaml"), &kustomization)
		named := map[string]bool{}
		for _, image := range kustomization.Images {
			named[image.Name] = true
		}
		if !maps.Equal(used, named) {
			t.Errorf("%s: the pods run %v, kustomization.yaml has %v", sample, used, named)
		}
	}
}

// A sample shows labels that do what they say.
func TestLabelsAreRight(t *testing.T) {
	for sample, objects := range manifests(t) {
		for _, o := range objects {
			_, problems := label.Parse(label.Kind(o.kind), o.meta.GetLabels())
			if pod := o.template(); pod != nil {
				_, more := label.Parse(label.Pod, pod.Labels)
				problems = append(problems, more...)
			}
			for _, problem := range problems {
				t.Errorf("%s: %s %s: %s", sample, o.kind, o.meta.GetName(), problem)
			}
		}
	}
}

func read(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = sigsyaml.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
