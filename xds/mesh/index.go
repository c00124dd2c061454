package mesh

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
