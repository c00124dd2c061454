package admission_test

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"pgregory.net/rapid"
)

// A trait is something that a pod may have. Some are never valid, some only beside others.
type trait func(t *rapid.T, p *corev1.Pod)

// drawPod draws a pod of containers with some traits. About half of them are valid; the API server knows which.
func drawPod(t *rapid.T) *corev1.Pod {
	p := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: metav1.ObjectMeta{Name: "drawn"}}
	for n := range rapid.IntRange(1, 3).Draw(t, "containers") {
		p.Spec.Containers = append(p.Spec.Containers, drawContainer(t, fmt.Sprintf("app-%d", n)))
	}
	for n := range rapid.IntRange(0, 3).Draw(t, "init containers") {
		c := drawContainer(t, fmt.Sprintf("init-%d", n))
		if rapid.Bool().Draw(t, "sidecar") {
			c.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		}
		p.Spec.InitContainers = append(p.Spec.InitContainers, c)
	}
	for _, name := range []string{"data", "cache"} {
		if mostly(t, false, true) {
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: drawSource(t)})
		}
	}
	for range rapid.IntRange(0, 4).Draw(t, "traits") {
		podTraits[rapid.IntRange(0, len(podTraits)-1).Draw(t, "trait")](t, p)
	}
	return p
}

func drawContainer(t *rapid.T, name string) corev1.Container {
	c := corev1.Container{Name: name, Image: "app"}
	for range rapid.IntRange(0, 2).Draw(t, "container traits") {
		containerTraits[rapid.IntRange(0, len(containerTraits)-1).Draw(t, "container trait")](t, &c)
	}
	return c
}

func oneOf[T any](t *rapid.T, values ...T) T { return rapid.SampledFrom(values).Draw(t, "value") }

// mostly draws one of the values, and now and then the first, which is seldom valid.
func mostly[T any](t *rapid.T, seldom T, values ...T) T {
	if rapid.IntRange(0, 15).Draw(t, "seldom") == 15 {
		return seldom
	}
	return oneOf(t, values...)
}

func amounts(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// security makes sure that there is a security context.
func security(p *corev1.Pod) *corev1.PodSecurityContext {
	if p.Spec.SecurityContext == nil {
		p.Spec.SecurityContext = &corev1.PodSecurityContext{}
	}
	return p.Spec.SecurityContext
}

func annotate(p *corev1.Pod, key, value string) {
	metav1.SetMetaDataAnnotation(&p.ObjectMeta, key, value)
}

var podTraits = []trait{
	func(t *rapid.T, p *corev1.Pod) {
		p.Name, p.GenerateName = "", oneOf(t, "drawn-", strings.Repeat("a", 70))
	},
	func(t *rapid.T, p *corev1.Pod) { p.Name = mostly(t, "A", "a.b.c", strings.Repeat("a", 253)) },
	func(t *rapid.T, p *corev1.Pod) {
		annotate(p, oneOf(t, "traffic.envoy.exclude-cidrs", "traffic.envoy.exclude-ports"), oneOf(t, "10.0.0.0/8, 2001:db8::/32", "1-65535,80", "x", ""))
	},
	func(t *rapid.T, p *corev1.Pod) {
		annotate(p, oneOf(t, "traffic.envoy.requests", "traffic.envoy.limits"), oneOf(t,
			"cpu=500m,memory=256Mi", "cpu=4", "memory=1Mi", "ephemeral-storage=1Gi", "cpu=-1", "cpu=1n", "memory=1.5e9", "memory=8E", "cpu=1e30", "gpu=1", ""))
		annotate(p, "traffic.envoy.log-level", oneOf(t, "debug", "loud"))
	},
	// All annotations of an object together are at most 256 KiB.
	func(t *rapid.T, p *corev1.Pod) {
		annotate(p, "long", strings.Repeat("x", mostly(t, 256<<10, 1000, 250<<10, 255<<10, 256<<10-4)))
	},
	func(t *rapid.T, p *corev1.Pod) {
		annotate(p, oneOf(t, "traffic.envoy.proxy", "traffic.envoy.redirect", "traffic.envoy.token-file"), oneOf(t, "x", ""))
	},
	func(_ *rapid.T, p *corev1.Pod) {
		annotate(p, "container.apparmor.security.beta.kubernetes.io/app-0", "unconfined")
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.RestartPolicy = mostly(t, "Sometimes", corev1.RestartPolicyNever, corev1.RestartPolicyOnFailure)
	},
	func(_ *rapid.T, p *corev1.Pod) { p.Spec.HostNetwork = true },
	func(t *rapid.T, p *corev1.Pod) { p.Spec.HostPID, p.Spec.HostIPC = true, rapid.Bool().Draw(t, "ipc") },
	func(t *rapid.T, p *corev1.Pod) { p.Spec.HostUsers = new(rapid.Bool().Draw(t, "host users")) },
	func(_ *rapid.T, p *corev1.Pod) { p.Spec.ShareProcessNamespace = new(true) },
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.OS = &corev1.PodOS{Name: mostly(t, "plan9", corev1.Linux, corev1.Linux, corev1.Windows)}
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.DNSPolicy = mostly(t, corev1.DNSNone, corev1.DNSDefault, corev1.DNSClusterFirstWithHostNet)
		if rapid.Bool().Draw(t, "servers") {
			p.Spec.DNSConfig = &corev1.PodDNSConfig{Nameservers: []string{"10.96.0.10"}}
		}
	},
	func(_ *rapid.T, p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = new(false) },
	func(t *rapid.T, p *corev1.Pod) { p.Spec.ActiveDeadlineSeconds = new(mostly[int64](t, 0, 60)) },
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.TerminationGracePeriodSeconds = new(mostly[int64](t, -1, 0, 600))
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.Hostname, p.Spec.SetHostnameAsFQDN = mostly(t, "A_", "a"), new(true)
	},
	func(_ *rapid.T, p *corev1.Pod) {
		p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "example.com/wait"}}
	},
	func(_ *rapid.T, p *corev1.Pod) {
		p.Spec.HostAliases = []corev1.HostAlias{{IP: "127.0.0.1", Hostnames: []string{"traffic-control"}}}
	},
	func(t *rapid.T, p *corev1.Pod) {
		security(p).RunAsUser = new(mostly[int64](t, -1, 0, 65532, mostly[int64](t, 1337, 1000)))
	},
	func(t *rapid.T, p *corev1.Pod) { security(p).RunAsNonRoot = new(rapid.Bool().Draw(t, "non root")) },
	func(t *rapid.T, p *corev1.Pod) {
		security(p).FSGroup, security(p).SupplementalGroups = new(int64(5)), []int64{mostly[int64](t, -1, 1)}
	},
	func(t *rapid.T, p *corev1.Pod) {
		security(p).Sysctls = []corev1.Sysctl{{Name: mostly(t, "not/../valid", "net.ipv4.ip_local_port_range", "kernel.shm_rmid_forced"), Value: "1"}}
	},
	func(t *rapid.T, p *corev1.Pod) {
		security(p).SeccompProfile = &corev1.SeccompProfile{Type: mostly(t, corev1.SeccompProfileTypeLocalhost, corev1.SeccompProfileTypeUnconfined)}
	},
	func(_ *rapid.T, p *corev1.Pod) {
		security(p).SELinuxOptions = &corev1.SELinuxOptions{Level: "s0:c1,c2"}
	},
	func(_ *rapid.T, p *corev1.Pod) {
		security(p).WindowsOptions = &corev1.WindowsSecurityContextOptions{RunAsUserName: new("x")}
	},
	// Requests and limits of the pod as a whole must hold those of its containers.
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.Resources = &corev1.ResourceRequirements{Requests: amounts(mostly(t, "10m", "50m"), "64Mi")}
		if rapid.Bool().Draw(t, "limits") {
			p.Spec.Resources.Limits = amounts(mostly(t, "5m", "10m", "1"), "64Mi")
		}
	},
	func(_ *rapid.T, p *corev1.Pod) { p.Spec.Resources = &corev1.ResourceRequirements{} },
	func(t *rapid.T, p *corev1.Pod) {
		name := mostly(t, oneOf(t, "traffic-envoy-token", "Not_valid", "data"), "kube-api-access-abcde", "more")
		p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: drawSource(t)})
	},
	func(t *rapid.T, p *corev1.Pod) {
		if mostly(t, false, true) {
			return // they are for pods that run
		}
		p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "debug", Image: "app"}}}
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.Containers = append(p.Spec.Containers, drawContainer(t, mostly(t, oneOf(t, "app-0", "init-0", "traffic-envoy", "Not_valid"), "envoy", strings.Repeat("a", 63))))
	},
	func(t *rapid.T, p *corev1.Pod) {
		p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": oneOf(t, "linux", "windows")}
	},
}

func drawSource(t *rapid.T) corev1.VolumeSource {
	return mostly(t, corev1.VolumeSource{},
		corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}},
		corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "x"}}},
		corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}},
		corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
			{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Audience: "traffic-control", Path: "token"}},
		}}},
	)
}

func containerSecurity(c *corev1.Container) *corev1.SecurityContext {
	if c.SecurityContext == nil {
		c.SecurityContext = &corev1.SecurityContext{}
	}
	return c.SecurityContext
}

var containerTraits = []func(t *rapid.T, c *corev1.Container){
	func(t *rapid.T, c *corev1.Container) {
		c.Ports = append(c.Ports, corev1.ContainerPort{
			Name: oneOf(t, "", "http", "stats"), ContainerPort: mostly(t, oneOf[int32](t, 8900, 10000, 0), 80, 8080),
			HostPort: mostly[int32](t, 8900, 0), Protocol: oneOf(t, corev1.ProtocolTCP, corev1.ProtocolUDP, ""),
		})
	},
	func(t *rapid.T, c *corev1.Container) {
		containerSecurity(c).RunAsUser = new(mostly(t, oneOf[int64](t, 1337, -1), 0, 1000))
	},
	func(t *rapid.T, c *corev1.Container) {
		containerSecurity(c).Privileged = new(rapid.Bool().Draw(t, "privileged"))
	},
	func(_ *rapid.T, c *corev1.Container) { containerSecurity(c).ProcMount = new(corev1.UnmaskedProcMount) },
	func(t *rapid.T, c *corev1.Container) {
		c.Resources.Requests, c.Resources.Limits = amounts("10m", "16Mi"), amounts(mostly(t, "5m", "10m", "1"), "16Mi")
	},
	func(_ *rapid.T, c *corev1.Container) {
		c.Resources.Limits = corev1.ResourceList{"hugepages-2Mi": resource.MustParse("4Mi"), corev1.ResourceMemory: resource.MustParse("1Gi")}
	},
	func(t *rapid.T, c *corev1.Container) {
		c.ReadinessProbe = &corev1.Probe{PeriodSeconds: mostly[int32](t, -1, 0, 5), ProbeHandler: corev1.ProbeHandler{
			HTTPGet: &corev1.HTTPGetAction{Path: "/", Port: mostly(t, intstr.FromInt32(0), intstr.FromInt32(80), intstr.FromString("http"))},
		}}
	},
	func(_ *rapid.T, c *corev1.Container) {
		c.Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 5}}}
	},
	func(t *rapid.T, c *corev1.Container) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: mostly(t, "traffic-envoy-token", "data", "cache"), MountPath: oneOf(t, "/data", "/var/run/secrets/kubernetes.io/serviceaccount")})
	},
	func(t *rapid.T, c *corev1.Container) {
		for n := range mostly(t, 2000, 1, 20) {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprintf("NAME_%d", n), Value: "value $(POD_NAME)"})
		}
	},
	func(t *rapid.T, c *corev1.Container) {
		c.Env = append(c.Env, corev1.EnvVar{Name: "X", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{
			FieldPath: mostly(t, "no.such", "status.podIP", "metadata.annotations['traffic.envoy.proxy']"),
		}}})
	},
	func(t *rapid.T, c *corev1.Container) {
		c.ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceCPU, RestartPolicy: oneOf(t, corev1.NotRequired, corev1.RestartContainer)}}
	},
	func(t *rapid.T, c *corev1.Container) {
		c.Image = mostly(t, oneOf(t, "", " app"), "app:latest", "registry.example/app@sha256:abc")
	},
	func(t *rapid.T, c *corev1.Container) {
		c.Stdin, c.TTY, c.WorkingDir = true, true, mostly(t, "relative:", "/work")
	},
}
