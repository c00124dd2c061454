package envoy

// An Update is what changed from one state of the mesh to the next. No key is in both lists.
type Update struct {
	Set    []Resource
	Remove []Key
}
