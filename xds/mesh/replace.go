package mesh

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// This file says which objects an event concerns. A nil projection stands for an object that is not there.

func (m *Mesh) touch(o Object) {
	if o != (Object{}) {
		m.dirty[o] = struct{}{}
	}
}

func (m *Mesh) replaceService(o Object, next *openService) {
	previous := m.services[o]
	if reflect.DeepEqual(previous, next) {
		return
	}
	m.touch(o)
	store(m.services, o, next)
	var before, after labelled
	if previous != nil {
		before = previous.labelled
	}
	if next != nil {
		after = next.labelled
	}
	m.noteLabels(o, before, after)
}

func (m *Mesh) replaceSlice(o Object, next *endpointSlice) {
	previous := m.slices[o]
	if reflect.DeepEqual(previous, next) {
		return
	}
	if previous != nil {
		m.slicesOf.remove(previous.service, o)
		for _, e := range previous.endpoints {
			m.slicesWith.remove(e.pod, o)
		}
		m.touch(previous.service)
	}
	if next != nil {
		m.slicesOf.add(next.service, o)
		for _, e := range next.endpoints {
			m.slicesWith.add(e.pod, o)
		}
		m.touch(next.service)
	}
	store(m.slices, o, next)
}

func (m *Mesh) replacePod(o Object, next *pod) {
	previous := m.pods[o]
	if reflect.DeepEqual(previous, next) {
		return
	}
	var before, after pod
	if previous != nil {
		before = *previous
	}
	if next != nil {
		after = *next
	}
	m.podsOf.move(before.owner, after.owner, o)
	store(m.pods, o, next)
	m.touch(o)
	for _, owner := range []Object{before.owner, after.owner} {
		m.touch(m.workloadOf(owner))
	}
	m.touchServicesOf(o)
	if before.created != after.created || !slices.Equal(previous.ownAddresses(), next.ownAddresses()) {
		m.podsAt.remove(previous, o)
		m.podsAt.add(next, o)
		m.touchServicesAt(before.addresses, o.Namespace)
		m.touchServicesAt(after.addresses, o.Namespace)
	}
	if previous != nil && next != nil {
		m.noteLabels(o, before.labelled, after.labelled)
	}
}

func (m *Mesh) replaceWorkload(o Object, next *workload) {
	previous := m.workloads[o]
	if reflect.DeepEqual(previous, next) {
		return
	}
	var before, after workload
	if previous != nil {
		before = *previous
	}
	if next != nil {
		after = *next
	}
	store(m.workloads, o, next)
	m.replicaSetsOf.move(before.owner, after.owner, o)
	for _, w := range []Object{o, before.owner, after.owner} {
		m.touch(w)
	}
	for pod := range m.podsOfWorkload(o) {
		m.touchServicesOf(pod)
	}
	m.noteLabels(o, before.labelled, after.labelled)
}

// touchServicesOf marks the Services that have the pod as an endpoint.
func (m *Mesh) touchServicesOf(pod Object) {
	for slice := range m.slicesWith.all(pod) {
		m.touch(m.slices[slice].service)
	}
}

// touchServicesAt marks the Services outside of a namespace that claim the addresses of a pod in it.
func (m *Mesh) touchServicesAt(addresses []netip.Addr, namespace string) {
	for _, address := range addresses {
		for _, by := range m.claims.at[netip.AddrPortFrom(address, wholeAddress)] {
			if by.owner.Kind == string(label.Service) && by.owner.Namespace != namespace {
				m.touch(by.owner)
			}
		}
	}
}

// noteLabels records each label that differs. Injection is the webhook's affair: its label is no change here.
func (m *Mesh) noteLabels(o Object, before, after labelled) {
	keys := maps.Clone(before.labels)
	if keys == nil {
		keys = map[string]string{}
	}
	maps.Copy(keys, after.labels)
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		if key != label.EnabledKey && before.labels[key] != after.labels[key] {
			change := LabelChange{Object: o, Key: key, Old: before.labels[key], New: after.labels[key]}
			m.labels = append(m.labels, change)
		}
	}
}

// store puts a projection into its map, or removes it when it is nil.
func store[T any](objects map[Object]*T, o Object, next *T) {
	if next == nil {
		delete(objects, o)
		return
	}
	objects[o] = next
}
