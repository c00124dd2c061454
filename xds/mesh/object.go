package mesh

import (
	"cmp"
	"strings"
)

// Kinds of objects beside those that carry labels, which package label names.
const (
	EndpointSlice = "EndpointSlice"
	ReplicaSet    = "ReplicaSet"
)

// An Object names a Kubernetes object: the owner of a resource, the subject of a log line or an Event.
type Object struct {
	Kind      string
	Namespace string
	Name      string
}

// String is the form used in logs: "Service default/reviews".
func (o Object) String() string {
	if o.Namespace == "" {
		return o.Kind + " " + o.Name
	}
	return o.Kind + " " + o.Namespace + "/" + o.Name
}

// Compare orders objects by kind, namespace and name.
func (o Object) Compare(other Object) int {
	return cmp.Or(
		strings.Compare(o.Kind, other.Kind),
		strings.Compare(o.Namespace, other.Namespace),
		strings.Compare(o.Name, other.Name),
	)
}
