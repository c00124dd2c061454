package node

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
)

// Reasons of the events that a node gets.
const (
	reasonContested = "RedirectContested"
	reasonSettled   = "RedirectSettled"
	reasonBypassed  = "RedirectBypassed"
)

// reporter tells whoever describes an object.
type reporter struct {
	recorder events.EventRecorder
}

// event is one of them. The API server takes 1,024 bytes.
func (r reporter) event(about runtime.Object, kind, reason, action, note string) {
	const limit = 1000
	if len(note) > limit {
		note = note[:limit] + "..."
	}
	r.recorder.Eventf(about, nil, kind, reason, action, "%s", note)
}

// nodeReference stands for a node as the kubelet's own events do, whose UID is
// the name.
func nodeReference(name string) *corev1.ObjectReference {
	return &corev1.ObjectReference{Kind: "Node", Name: name, UID: types.UID(name)}
}
