package mesh

import (
	"fmt"
	"maps"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// noAnswer is what is in force where every endpoint has weight 0.
const noAnswer = "clients get 503, or a closed connection"

// weight is the pod's own, or else its workload's.
func (m *Mesh) weight(pod Object) uint32 {
	_, weight := m.weigher(pod)
	return weight
}

// weigher returns the object whose label weighs a pod, the pod itself or its workload, and the weight; no object and the default
// if neither does.
func (m *Mesh) weigher(o Object) (Object, uint32) {
	p := m.pods[o]
	if p == nil {
		return Object{}, label.DefaultWeight
	}
	if p.settings.Weight != nil {
		return o, *p.settings.Weight
	}
	workload := m.workloadOf(p.owner)
	if w := m.workloads[workload]; w != nil && w.settings.Weight != nil {
		return workload, *w.settings.Weight
	}
	return Object{}, label.DefaultWeight
}

// weighers returns those of all the endpoints, sorted.
func (m *Mesh) weighers(endpoints []sliceEndpoint) []Object {
	all := map[Object]struct{}{}
	for _, e := range endpoints {
		weigher, _ := m.weigher(e.pod)
		all[weigher] = struct{}{}
	}
	return slices.SortedFunc(maps.Keys(all), Object.Compare)
}

// emptied keeps which objects' weights leave a Service without an endpoint, and touches those of which that is new or over.
func (m *Mesh) emptied(service Object, by []Object) {
	before := m.emptiedBy[service]
	for _, o := range before {
		if !slices.Contains(by, o) {
			m.empties.remove(o, service)
			m.touch(o)
		}
	}
	for _, o := range by {
		if !slices.Contains(before, o) {
			m.empties.add(o, service)
			m.touch(o)
		}
	}
	m.emptiedBy[service] = by
	if len(by) == 0 {
		delete(m.emptiedBy, service)
	}
}

// leavesNobody tells whose weight it is that a Service has no endpoint with another.
func (m *Mesh) leavesNobody(o Object, l labelled) []label.Problem {
	var problems []label.Problem
	for _, service := range slices.SortedFunc(m.empties.all(o), Object.Compare) {
		problems = append(problems, label.Problem{
			Key: label.WeightKey, Value: l.labels[label.WeightKey],
			Reason: fmt.Sprintf("every endpoint of %s has weight 0", service), InForce: noAnswer,
		})
	}
	return problems
}
