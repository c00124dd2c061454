package mesh

import (
	"iter"
	"net/netip"
	"slices"
)

// An index finds the objects that depend on another. The zero Object stands for none: nothing depends on it.
type index map[Object]dependents

// dependents are mostly one, for which a map would be ten times the memory.
type dependents struct {
	first  Object // the zero Object only if there are no others either
	others map[Object]struct{}
}

// all yields the objects that depend on key, in no order.
func (x index) all(key Object) iter.Seq[Object] {
	return func(yield func(Object) bool) {
		d, found := x[key]
		if !found || !yield(d.first) {
			return
		}
		for o := range d.others {
			if !yield(o) {
				return
			}
		}
	}
}

func (x index) add(key, value Object) {
	if key == (Object{}) {
		return
	}
	d, found := x[key]
	switch {
	case !found:
		d.first = value
	case d.first == value:
	case d.others == nil:
		d.others = map[Object]struct{}{value: {}}
	default:
		d.others[value] = struct{}{}
	}
	x[key] = d
}

func (x index) remove(key, value Object) {
	d, found := x[key]
	if !found {
		return
	}
	if d.first != value {
		delete(d.others, value)
		return
	}
	for next := range d.others {
		delete(d.others, next)
		d.first = next
		x[key] = d
		return
	}
	delete(x, key)
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
