package ingress

// An index finds what depends on a key.
type index[K, V comparable] map[K]map[V]struct{}

// add reports whether it is the key's first.
func (x index[K, V]) add(key K, value V) (first bool) {
	values := x[key]
	if values == nil {
		values = map[V]struct{}{}
		x[key] = values
	}
	values[value] = struct{}{}
	return len(values) == 1
}

// remove reports whether it was the key's last.
func (x index[K, V]) remove(key K, value V) (last bool) {
	delete(x[key], value)
	if len(x[key]) == 0 {
		delete(x, key)
		return true
	}
	return false
}
