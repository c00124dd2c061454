// Package injected makes what is around an injected pod without a cluster: the pod as the webhook makes it, its Envoy's
// volumes and arguments as the kubelet does, its redirect and its network. Tests and benchmarks run Envoy in it.
package injected

import (
	"crypto/x509"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/plugins/pkg/ns"
	jsonpatch "github.com/evanphx/json-patch/v5"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
)

// UID is Envoy's user and group.
const UID = 1337

// Config is what the chart's defaults make, but for the control plane: it is at a port of the pod's own loopback.
func Config(controlPort uint16, ca ...*x509.Certificate) inject.Config {
	return inject.Config{
		ProxyImage: "envoy:test", VerifyImage: "verify:test", ImagePullPolicy: corev1.PullIfNotPresent, Verify: true,
		ProxyUID: UID, ProxyPort: 10000, StatsPort: 8900, Concurrency: 1, LogLevel: "warning", IPv6: true,
		OutboundPolicy: inject.Block, ControlHost: "localhost", ControlPort: controlPort, CA: ca,
	}
}

// Pod is a pod of one container as the webhook makes it.
func Pod(t testing.TB, namespace, name string, c inject.Config) *corev1.Pod {
	t.Helper()
	return Annotated(t, namespace, name, c, nil)
}

// Annotated is such a pod with annotations of its own.
func Annotated(t testing.TB, namespace, name string, c inject.Config, annotations map[string]string) *corev1.Pod {
	t.Helper()
	metadata := map[string]any{"name": name, "namespace": namespace}
	if len(annotations) > 0 {
		metadata["annotations"] = annotations
	}
	raw, err := json.Marshal(map[string]any{
		"metadata": metadata,
		"spec":     map[string]any{"containers": []any{map[string]string{"name": "app", "image": "app"}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	injector, err := inject.New(c)
	if err != nil {
		t.Fatal(err)
	}
	read, err := inject.Decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	result, err := injector.Pod(read)
	if err != nil || result.Outcome != inject.Injected {
		t.Fatalf("not injected: %+v, %v", result, err)
	}
	text, err := patch.Append(nil, result.Patch)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := jsonpatch.DecodePatch(text)
	if err != nil {
		t.Fatal(err)
	}
	if raw, err = operations.Apply(raw); err != nil {
		t.Fatal(err)
	}
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// Redirect writes the rules that the CNI plugin writes.
func Redirect(t testing.TB, netns ns.NetNS, pod *corev1.Pod) {
	t.Helper()
	spec, err := redirect.Decode(pod.Annotations[redirect.Annotation])
	if err != nil {
		t.Fatal(err)
	}
	if err := (apply.Nftables{}).Apply(netns, spec); err != nil {
		t.Fatal(err)
	}
}

// Expand puts in what the kubelet knows, and the folders that stand for the volumes.
func Expand(pod *corev1.Pod, ip, folder string) *strings.Replacer {
	pairs := []string{
		"$(POD_NAME)", pod.Name, "$(POD_NAMESPACE)", pod.Namespace, "$(POD_IP)", ip,
		"$(SERVICE_NAME)", pod.Annotations[inject.ServiceAnnotation],
	}
	for _, mount := range envoy(pod).VolumeMounts {
		pairs = append(pairs, mount.MountPath+"/", filepath.Join(folder, mount.Name)+"/")
	}
	return strings.NewReplacer(pairs...)
}

// Command returns Envoy's arguments and variables.
func Command(pod *corev1.Pod, ip, folder string) (args, environment []string) {
	values := Expand(pod, ip, folder)
	for _, arg := range envoy(pod).Args {
		args = append(args, values.Replace(arg))
	}
	for _, v := range envoy(pod).Env {
		if v.ValueFrom == nil {
			environment = append(environment, v.Name+"="+values.Replace(v.Value))
		}
	}
	return args, environment
}

// Volumes makes a folder that Envoy's user can reach, with a folder for each of its volumes.
func Volumes(t testing.TB, pod *corev1.Pod) (folder string) {
	t.Helper()
	// Not below t.TempDir, whose name would make the admin socket's path too long.
	folder, err := os.MkdirTemp("", "pod")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	if err := os.Chmod(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, mount := range envoy(pod).VolumeMounts {
		path := filepath.Join(folder, mount.Name)
		if err := os.Mkdir(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, UID, UID); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// Projected returns the files of the projected volume, by name, with that token.
func Projected(pod *corev1.Pod, folder, token string) (volume string, files map[string]string) {
	for _, v := range pod.Spec.Volumes {
		if p := v.Projected; p != nil {
			return v.Name, map[string]string{
				p.Sources[0].ServiceAccountToken.Path:  token,
				p.Sources[1].DownwardAPI.Items[0].Path: Expand(pod, "", folder).Replace(pod.Annotations[inject.TokenFileAnnotation]),
			}
		}
	}
	return "", nil
}

// WriteToken writes the files of the projected volume.
func WriteToken(t testing.TB, pod *corev1.Pod, folder, token string) {
	t.Helper()
	volume, files := Projected(pod, folder, token)
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(folder, volume, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func envoy(pod *corev1.Pod) *corev1.Container { return &pod.Spec.InitContainers[0] }
