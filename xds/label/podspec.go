package label

import (
	"fmt"
	"maps"
	"slices"
)

// A PodSpec is what tells at which ports a pod listens. Its fields are those of the API.
type PodSpec struct {
	HostNetwork    bool        `json:"hostNetwork"`
	Containers     []Container `json:"containers"`
	InitContainers []Container `json:"initContainers"` // those that go on are sidecars
}

// A Container is one of a pod.
type Container struct {
	Name  string          `json:"name"`
	Ports []ContainerPort `json:"ports"`
}

// A ContainerPort is a port that a container declares.
type ContainerPort struct {
	ContainerPort int32  `json:"containerPort"` // 1 to 65535
	Protocol      string `json:"protocol"`      // empty is TCP
}

// Undeclared tells of labels of a Pod for ports that no container declares, though they declare others: nothing has to be
// declared, so this may be right. Containers with the name of the sidecar are left out. The settings are what Parse made
// of the labels.
func (s PodSpec) Undeclared(labels map[string]string, settings Settings, sidecar string) (problems []Problem) {
	declared := s.declared(sidecar)
	if len(declared) == 0 {
		return nil
	}
	only := some(declared, func(port int32) string { return fmt.Sprint(port) })
	inForce := "the port is open"
	if s.HostNetwork {
		inForce += " at the node's address"
	}
	for _, port := range slices.Sorted(maps.Keys(settings.Ports)) {
		if _, is := slices.BinarySearch(declared, int32(port)); is {
			continue
		}
		key := OpenedBy(labels, port)
		problems = append(problems, Problem{
			Key: key, Value: labels[key], InForce: inForce,
			Reason: fmt.Sprintf("the containers declare only %s: does one listen on %d too?", only, port),
		})
	}
	return problems
}

// declared are the TCP ports, sorted.
func (s PodSpec) declared(sidecar string) (ports []int32) {
	for _, c := range slices.Concat(s.InitContainers, s.Containers) {
		for _, p := range c.Ports {
			if c.Name != sidecar && (p.Protocol == "" || p.Protocol == "TCP") {
				ports = append(ports, p.ContainerPort)
			}
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
}
