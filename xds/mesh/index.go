package mesh

import (
	"net/netip"
	"slices"
)

// An index finds the objects that depend on another. The zero Object stands for none: nothing depends on it.
type index map[Object]map[Object]struct{}

func (x index) add(key, value Object) {
	if key == (Object{}) {
		return
	}
	values := x[key]
	if values == nil {
		values = map[Object]struct{}{}
		x[key] = values
	}
	values[value] = struct{}{}
}

func (x index) remove(key, value Object) {
	delete(x[key], value)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}

// move replaces the key of a value.
func (x index) move(from, to, value Object) {
	x.remove(from, value)
	x.add(to, value)
}

// podAddresses finds the pods at an address, sorted: one, but for the moment in which the address passes to another pod. They
// are lists because every pod of the cluster is in it: some 150 bytes for each address, with the pod's own copy of it.
type podAddresses map[netip.Addr][]Object

func (x podAddresses) add(p *pod, o Object) {
	for _, address := range p.ownAddresses() {
		if i, known := slices.BinarySearchFunc(x[address], o, Object.Compare); !known {
			x[address] = slices.Insert(x[address], i, o)
		}
	}
}

func (x podAddresses) remove(p *pod, o Object) {
	for _, address := range p.ownAddresses() {
		x[address] = slices.DeleteFunc(x[address], func(other Object) bool { return other == o })
		if len(x[address]) == 0 {
			delete(x, address)
		}
	}
}

// outside returns a pod of another namespace at the address, or no object.
func (x podAddresses) outside(namespace string, address netip.Addr) Object {
	for _, o := range x[address] {
		if o.Namespace != namespace {
			return o
		}
	}
	return Object{}
}
