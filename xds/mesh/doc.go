// Package mesh folds Kubernetes objects and their labels into a model of open ports, one key at a time.
//
// A [Mesh] is told of objects as they come, change and go. It keeps of each what it needs, remembers which Services an
// event concerns, and [Mesh.Flush] computes these alone. The model does not depend on the order of events: after any
// sequence of them it equals the one that is made from the remaining objects.
package mesh
