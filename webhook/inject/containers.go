package inject

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Names of what is added to a pod.
const (
	ProxyContainer  = "traffic-envoy"
	VerifyContainer = "traffic-verify"
	adminVolume     = "traffic-envoy-admin"
	tokenVolume     = "traffic-envoy-token"
)

const (
	tokenSeconds = 3600
	// drainSeconds is how long a listener that changed keeps its connections.
	drainSeconds = 30
	// startupFailures times one second is a year: a pod waits for the control plane, it is not restarted.
	startupFailures = 365 * 24 * 3600
)

// proxy is the sidecar: a native one, so that it is there before every other container and after them. It has no liveness
// probe, and its readiness does not depend on the control plane once it has started.
func (c Config) proxy() (corev1.Container, error) {
	bootstrap, err := c.bootstrap()
	if err != nil {
		return corev1.Container{}, err
	}
	return corev1.Container{
		Name:            ProxyContainer,
		Image:           c.ProxyImage,
		ImagePullPolicy: c.ImagePullPolicy,
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		// Named, because the entry points of Envoy's images differ.
		Command: []string{"envoy"},
		Args: []string{
			// An application may run an Envoy of its own; two with hot restart meet on one socket.
			"--disable-hot-restart",
			"--concurrency", strconv.Itoa(c.Concurrency),
			"--drain-time-s", strconv.Itoa(drainSeconds),
			"--log-level", c.LogLevel,
			// Of the access log; Envoy's default is ten seconds.
			"--file-flush-interval-msec", "500",
			"--config-yaml", bootstrap,
		},
		Env: []corev1.EnvVar{
			field("POD_NAME", "metadata.name"),
			field("POD_NAMESPACE", "metadata.namespace"),
			field("POD_IP", "status.podIP"),
			field("SERVICE_NAME", "metadata.annotations['"+ServiceAnnotation+"']"),
			// The standard's own variable, which Envoy's OpenTelemetry tracer reads.
			{Name: "OTEL_RESOURCE_ATTRIBUTES", Value: "service.name=$(SERVICE_NAME),service.namespace=$(POD_NAMESPACE)," +
				"k8s.namespace.name=$(POD_NAMESPACE),k8s.pod.name=$(POD_NAME)"},
		},
		StartupProbe:    c.startupProbe(),
		Resources:       c.ProxyResources,
		SecurityContext: restricted(int64(c.ProxyUID)),
		VolumeMounts: []corev1.VolumeMount{
			{Name: adminVolume, MountPath: adminDir},
			tokenMount(),
		},
	}, nil
}

// startupProbe holds the pod's start back until the proxy has its configuration. traffic-verify does that as well, and
// without waiting for the kubelet's next probe: a second of every pod's start.
func (c Config) startupProbe() *corev1.Probe {
	if c.Verify {
		return nil
	}
	return &corev1.Probe{
		ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: "/ready", Port: intstr.FromInt32(int32(c.StatsPort)),
		}},
		PeriodSeconds:    1,
		FailureThreshold: startupFailures,
	}
}

// verify is the init container that lets the pod go on once its connections reach its proxy.
func (c Config) verify() corev1.Container {
	return corev1.Container{
		Name:            VerifyContainer,
		Image:           c.VerifyImage,
		ImagePullPolicy: c.ImagePullPolicy,
		Command:         []string{"traffic-verify"},
		Args:            []string{"--ready-port", strconv.Itoa(int(c.StatsPort))},
		Env: []corev1.EnvVar{
			field("POD_NAME", "metadata.name"),
			field("POD_NAMESPACE", "metadata.namespace"),
			field("POD_IPS", "status.podIPs"),
			{Name: "NODE_ID", Value: nodeID},
		},
		Resources:       c.VerifyResources,
		SecurityContext: restricted(VerifyUID),
		VolumeMounts:    []corev1.VolumeMount{tokenMount()},
	}
}

func tokenMount() corev1.VolumeMount {
	return corev1.VolumeMount{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true}
}

func field(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
}

// restricted is what Pod Security's level of that name demands, and a read-only root file system.
func restricted(uid int64) *corev1.SecurityContext {
	return &corev1.SecurityContext{
		RunAsUser:                &uid,
		RunAsGroup:               &uid,
		RunAsNonRoot:             new(true),
		AllowPrivilegeEscalation: new(false),
		ReadOnlyRootFilesystem:   new(true),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// volumes are the sidecar's: the admin socket's folder, and the token with the file that tells Envoy where it is. That
// file is an annotation of the pod, so no namespace needs an object of ours.
func volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: adminVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{
				{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
					Audience: TokenAudience, ExpirationSeconds: new(int64(tokenSeconds)), Path: tokenPath,
				}},
				{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{{
					Path:     sdsPath,
					FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + TokenFileAnnotation + "']"},
				}}}},
			},
		}}},
	}
}

// marshalled is a value that is the same in every pod, as JSON, so that a pod costs no more than copying it.
func marshalled(value any) (jsontext.Value, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("marshal what is injected: %w", err)
	}
	return text, nil
}

// initContainers are ours in their order.
func (c Config) initContainers() ([]jsontext.Value, error) {
	proxy, err := c.proxy()
	if err != nil {
		return nil, err
	}
	ours := []corev1.Container{proxy}
	if c.Verify {
		ours = append(ours, c.verify())
	}
	raws := make([]jsontext.Value, len(ours))
	for i, container := range ours {
		if raws[i], err = marshalled(container); err != nil {
			return nil, err
		}
	}
	return raws, nil
}

// missingSecrets are the pull secrets that a pod does not have yet, in the order of the configuration. Kubernetes has given it
// those of its service account before.
func (i *Injector) missingSecrets(p *Pod) []jsontext.Value {
	var missing []jsontext.Value
	for _, name := range i.config.PullSecrets {
		if !slices.Contains(p.Spec.ImagePullSecrets, pullSecret{Name: name}) {
			missing = append(missing, i.pullSecrets[name])
		}
	}
	return missing
}

// withoutResources is for pods that have requests or limits as a whole, in which those of one more container may not fit.
func (c Config) withoutResources() Config {
	c.ProxyResources, c.VerifyResources = corev1.ResourceRequirements{}, corev1.ResourceRequirements{}
	return c
}
