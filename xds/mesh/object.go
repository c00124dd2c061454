package mesh

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
