// Package watch follows the Kubernetes API, and publishes what each change means to Envoy.
//
// Informers put events into a queue; one goroutine takes all that are queued, tells the mesh, and publishes one update.
// There is no timer between the two: a change goes on at once, and what comes meanwhile goes on together.
package watch
