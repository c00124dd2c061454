package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
	"pgregory.net/rapid"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// corpus returns the pods of testdata/corpus.yaml as JSON, by name.
func corpus(t testing.TB) map[string][]byte {
	t.Helper()
	text, err := os.ReadFile("testdata/corpus.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pods := map[string][]byte{}
	for document := range strings.SplitSeq(string(text), "\n---\n") {
		raw, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			t.Fatal(err)
		}
		var p corev1.Pod
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		pods[p.Name+p.GenerateName] = raw
	}
	return pods
}

// each runs a property for every pod of the corpus, with and without the check.
func each(t *testing.T, property func(t *testing.T, i *Injector, raw, after []byte)) {
	for _, verify := range []bool{true, false} {
		c := testConfig(t)
		c.Verify = verify
		i := newInjector(t, c)
		for name, raw := range corpus(t) {
			t.Run(fmt.Sprintf("%s/verify=%t", name, verify), func(t *testing.T) {
				property(t, i, raw, injectOnce(t, i, raw))
			})
		}
	}
}

func injectOnce(t testing.TB, i *Injector, raw []byte) []byte {
	t.Helper()
	result, err := injectRaw(i, raw)
	if err != nil || result.Outcome != Injected {
		t.Fatalf("%s: %+v, %v", raw, result, err)
	}
	return patched(t, raw, result.Patch)
}

// TestTheRestStays: without what was added, the pod is what it was; numbers are not even respelt.
func TestTheRestStays(t *testing.T) {
	each(t, func(t *testing.T, _ *Injector, raw, after []byte) {
		if diff := cmp.Diff(generic(t, raw), withoutOurs(generic(t, after), generic(t, raw))); diff != "" {
			t.Error(diff)
		}
	})
}

// generic decodes JSON into maps, numbers as they are spelt.
func generic(t testing.TB, raw []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// withoutOurs takes out of a pod what injection adds by name, and a list or map that was not there before.
func withoutOurs(after, before map[string]any) map[string]any {
	spec := after["spec"].(map[string]any)
	drop := func(list string, names ...string) {
		items, _ := spec[list].([]any)
		spec[list] = slices.DeleteFunc(items, func(item any) bool {
			object, _ := item.(map[string]any)
			name, _ := object["name"].(string)
			return slices.Contains(names, name)
		})
		restore(spec, before["spec"].(map[string]any), list, len(spec[list].([]any)))
	}
	drop("initContainers", ProxyContainer, VerifyContainer)
	drop("volumes", adminVolume, tokenVolume)

	metadata := after["metadata"].(map[string]any)
	annotations := metadata["annotations"].(map[string]any)
	for _, key := range []string{redirect.Annotation, label.ProxyAnnotation, BootstrapAnnotation, TokenFileAnnotation, ServiceAnnotation} {
		delete(annotations, key)
	}
	restore(metadata, before["metadata"].(map[string]any), "annotations", len(annotations))
	return after
}

// restore makes an emptied member absent or null if it was.
func restore(after, before map[string]any, member string, size int) {
	had, there := before[member]
	switch {
	case size > 0:
	case !there:
		delete(after, member)
	case had == nil:
		after[member] = nil
	}
}

// TestTwiceIsOnce: an injected pod that comes again, also with what the API server adds to it, gets an empty patch.
func TestTwiceIsOnce(t *testing.T) {
	each(t, func(t *testing.T, i *Injector, _, after []byte) {
		again(t, i, after)
		var p corev1.Pod
		if err := json.Unmarshal(after, &p); err != nil {
			t.Fatal(err)
		}
		for n := range p.Spec.InitContainers {
			c := &p.Spec.InitContainers[n]
			c.TerminationMessagePath, c.TerminationMessagePolicy = "/dev/termination-log", corev1.TerminationMessageReadFile
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "kube-api-access-x7k2p", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"})
		}
		defaulted, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		again(t, i, defaulted)
	})
}

// again injects an injected pod and wants nothing to be changed.
func again(t *testing.T, i *Injector, raw []byte) {
	t.Helper()
	result, err := injectRaw(i, raw)
	if err != nil || result.Outcome != AlreadyInjected || len(result.Patch) > 0 {
		t.Errorf("the second time: %+v, %v", result, err)
	}
}

// TestAnotherWebhookBetween: whatever containers others put before, between or after ours, the second call brings ours to
// the front, and everything else keeps its content and order.
func TestAnotherWebhookBetween(t *testing.T) {
	i := newInjector(t, testConfig(t))
	pods := corpus(t)
	names := []string{}
	for name := range pods {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(rt *rapid.T) {
		p := generic(t, injectOnce(t, i, pods[rapid.SampledFrom(names).Draw(rt, "pod")]))
		spec := p["spec"].(map[string]any)
		containers := spec["initContainers"].([]any)
		for n := range rapid.IntRange(0, 4).Draw(rt, "others") {
			at := rapid.IntRange(0, len(containers)).Draw(rt, "at")
			containers = slices.Insert(containers, at, any(map[string]any{"name": fmt.Sprintf("other-%d", n), "image": "other"}))
		}
		spec["initContainers"] = containers
		raw, err := json.Marshal(p)
		if err != nil {
			rt.Fatal(err)
		}
		result, err := injectRaw(i, raw)
		if err != nil || result.Outcome != AlreadyInjected {
			rt.Fatalf("%+v, %v", result, err)
		}
		after := patched(t, raw, result.Patch)
		again(t, i, after)
		got := generic(t, after)["spec"].(map[string]any)["initContainers"].([]any)
		isOurs := func(c any) bool {
			name := c.(map[string]any)["name"]
			return name == ProxyContainer || name == VerifyContainer
		}
		if !isOurs(got[0]) || !isOurs(got[1]) || got[0].(map[string]any)["name"] != ProxyContainer {
			rt.Errorf("ours are not in front: %v", got)
		}
		theirs := slices.DeleteFunc(slices.Clone(containers), isOurs)
		if diff := cmp.Diff(theirs, got[2:], cmp.Comparer(func(a, b json.Number) bool { return a == b })); diff != "" {
			rt.Error(diff)
		}
	})
}

// TestPodSecurity: a namespace that took the pod before takes it injected, at every level; nothing that is forbidden is
// about our containers.
func TestPodSecurity(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	judge := func(t *testing.T, raw []byte, level api.Level) []policy.CheckResult {
		var p corev1.Pod
		if err := json.Unmarshal(raw, &p); err != nil {
			t.Fatal(err)
		}
		return evaluator.EvaluatePod(api.LevelVersion{Level: level, Version: api.LatestVersion()}, &p.ObjectMeta, &p.Spec)
	}
	each(t, func(t *testing.T, _ *Injector, raw, after []byte) {
		for _, level := range []api.Level{api.LevelBaseline, api.LevelRestricted} {
			before, now := judge(t, raw, level), judge(t, after, level)
			for n := range now {
				if now[n].Allowed == before[n].Allowed && !strings.Contains(now[n].ForbiddenDetail, "traffic-") {
					continue
				}
				t.Errorf("%s: %s: %s", level, now[n].ForbiddenReason, now[n].ForbiddenDetail)
			}
		}
	})
	restricted := judge(t, corpus(t)["restricted"], api.LevelRestricted)
	if policy.AggregateCheckResults(restricted).Allowed != true || policy.AggregateCheckResults(judge(t, corpus(t)["privileged"], api.LevelRestricted)).Allowed {
		t.Error("the judge does not tell a restricted pod from a privileged one")
	}
}

// FuzzPod: no bytes make it panic, and what is a pod and gets injected stays valid JSON, injected once, with the rest as it
// was.
func FuzzPod(f *testing.F) {
	for _, raw := range corpus(f) {
		f.Add(raw)
	}
	i := newInjector(f, testConfig(f))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if _, err := injectRaw(i, raw); err != nil {
			return
		}
		// The API server sends each member once.
		canonical, err := json.Marshal(generic(t, raw))
		if err != nil {
			t.Fatal(err)
		}
		result, err := injectRaw(i, canonical)
		if err != nil || result.Outcome != Injected {
			return
		}
		after := patched(t, canonical, result.Patch)
		again(t, i, after)
		if diff := cmp.Diff(generic(t, canonical), withoutOurs(generic(t, after), generic(t, canonical))); diff != "" {
			t.Error(diff)
		}
	})
}
