package ingress

// An index finds what depends on a key.
type index[K, V comparable] map[K]map[V]struct{}

func (x index[K, V]) add(key K, value V) {
	if x[key] == nil {
		x[key] = map[V]struct{}{}
	}
	x[key][value] = struct{}{}
}

// remove leaves no empty set.
func (x index[K, V]) remove(key K, value V) {
	delete(x[key], value)
	if len(x[key]) == 0 {
		delete(x, key)
	}
}
