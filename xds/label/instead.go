package label

import (
	"fmt"
	"slices"
	"strings"
)

// instead says what is in force where the value of a label is not valid: what there would be without the label, which another
// label may decide.
func (s Settings) instead(k Key, kind Kind, port uint16) string {
	switch {
	case k.Name == EnabledKey:
		return nextLevel(kind)
	case k.Name == WeightKey && kind == Pod:
		return "the workload's weight, or else " + k.Default
	case slices.ContainsFunc(ports, k.is):
		return s.portInstead(k, kind, port)
	case strings.HasPrefix(k.Name, retriesPrefix) && k.Name != maxRetriesKey && s.Retries != Retries{}:
		return "the other labels " + retriesPrefix + "*"
	case k.Name == maxRetriesKey && s.Retries == Retries{}:
		return "no retries"
	case k.Name == abortStatusKey && s.Fault.AbortPercentage == 0:
		return "no request is aborted"
	case k.Name == samplingKey && !s.Tracing.Enabled:
		return "no request is traced"
	}
	return k.Default
}

func (k Key) is(other Key) bool { return k.Name == other.Name }

// nextLevel is what decides about the injection of pods where an object of the kind does not.
func nextLevel(kind Kind) string {
	switch kind {
	case Namespace:
		return "not opted in"
	case Pod:
		return "what the namespace says"
	default:
		return "what the pod template says, or else the namespace"
	}
}

// portInstead is for the keys of a port: the other spelling may open it, and a pod's may be open by a headless Service.
func (s Settings) portInstead(k Key, kind Kind, port uint16) string {
	if p, open := s.Ports[port]; open {
		other := PortKey(port)
		if strings.HasPrefix(k.Name, portPrefix) {
			other = targetPortKey(port)
		}
		return fmt.Sprintf("%s, as %s says", p, other)
	}
	if kind == Pod {
		return k.Default + " unless a Service opens it"
	}
	return k.Default
}
