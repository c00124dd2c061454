package inject

import (
	"fmt"
	"slices"
)

// clashes lists what the pod and the sidecar cannot both have, each with the way out. Containers of ours are not looked
// at.
func (c Config) clashes(p *Pod, injected bool) []string {
	var found []string
	for _, container := range p.containers() {
		if container.Name == ProxyContainer || container.Name == VerifyContainer {
			if !injected {
				found = append(found, fmt.Sprintf("container name %s is the sidecar's: rename the container", container.Name))
			}
			continue
		}
		found = append(found, c.containerClashes(p, container)...)
	}
	for _, v := range p.Spec.Volumes {
		if !injected && (v.Name == adminVolume || v.Name == tokenVolume) {
			found = append(found, fmt.Sprintf("volume name %s is the sidecar's: rename the volume", v.Name))
		}
	}
	return found
}

func (c Config) containerClashes(p *Pod, container container) []string {
	var found []string
	user := container.SecurityContext.user()
	if user == nil {
		user = p.Spec.SecurityContext.user()
	}
	if user != nil && *user == int64(c.ProxyUID) {
		found = append(found, fmt.Sprintf("container %s has runAsUser %d, whose connections bypass the sidecar: use another user",
			container.Name, *user))
	}
	for _, port := range container.Ports {
		isTCP := port.Protocol == "" || port.Protocol == "TCP"
		if isTCP && slices.Contains([]int64{int64(c.ProxyPort), int64(c.StatsPort)}, port.ContainerPort) {
			found = append(found, fmt.Sprintf("container %s has containerPort %d, on which the sidecar listens: use another port",
				container.Name, port.ContainerPort))
		}
	}
	return found
}

// maxAnnotations is how many bytes Kubernetes takes of all annotations of an object, their keys included.
const maxAnnotations = 256 << 10

// tooLong says that there is no room for the sidecar's annotations.
func tooLong(have, more map[string]string) string {
	rest, ours := 0, 0
	for key, value := range have {
		if _, replaced := more[key]; !replaced {
			rest += len(key) + len(value)
		}
	}
	for key, value := range more {
		ours += len(key) + len(value)
	}
	if rest+ours <= maxAnnotations {
		return ""
	}
	return fmt.Sprintf("the annotations have %d bytes, and of the %d that Kubernetes allows the sidecar's need %d: shorten them", rest, maxAnnotations, ours)
}

func (s *securityContext) user() *int64 {
	if s == nil {
		return nil
	}
	return s.RunAsUser
}
