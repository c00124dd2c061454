package inject

import (
	"encoding/json"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// notGuaranteed is for those who made a pod Guaranteed: CPUs of its own and the last place in evictions depend on that.
const notGuaranteed = "it was of QoS class Guaranteed and becomes Burstable, because Envoy's requests are not its limits: " +
	"the chart's values proxy.resources and verify.resources keep it, with requests equal to limits, and for the former a pod's " +
	RequestsAnnotation + " and " + LimitsAnnotation

// amounts is what is read of a container's resources.
type amounts struct {
	Requests map[string]jsontext.Value `json:"requests"`
	Limits   map[string]jsontext.Value `json:"limits"`
}

// isGuaranteed reports whether Kubernetes gives the pod the QoS class Guaranteed: each container has a limit of CPU and of
// memory, and requests that much; a request that is missing is the limit.
func isGuaranteed(containers []container) bool {
	for _, c := range containers {
		for _, kind := range []string{"cpu", "memory"} {
			limit, ok := quantity(c.Resources.Limits[kind])
			if !ok || limit.IsZero() {
				return false
			}
			request, ok := quantity(c.Resources.Requests[kind])
			if ok && request.Cmp(limit) != 0 {
				return false
			}
		}
	}
	return len(containers) > 0
}

func quantity(raw jsontext.Value) (q resource.Quantity, ok bool) {
	return q, len(raw) > 0 && json.Unmarshal(raw, &q) == nil
}

// keepsGuaranteed reports whether a pod of that class has it with our containers as well.
func (c Config) keepsGuaranteed() bool {
	ours := []corev1.ResourceRequirements{c.ProxyResources}
	if c.Verify {
		ours = append(ours, c.VerifyResources)
	}
	for _, r := range ours {
		for _, kind := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			limit, request := r.Limits[kind], r.Requests[kind]
			if limit.IsZero() || !request.IsZero() && request.Cmp(limit) != 0 {
				return false
			}
		}
	}
	return true
}
