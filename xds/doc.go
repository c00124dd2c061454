// Package xds is a guided tour of the control plane; its tests play the stories in testdata.
//
// Follow one command:
//
//	kubectl label deployment reviews-v2 traffic.endpoint.weight=10
//
// The API server tells [watch]. An informer there queues the Deployment's metadata, and the one goroutine that owns
// the model takes it from the queue and hands it to [mesh.Mesh.SetWorkload].
//
// The mesh projects the object: of all that is in it, it keeps what the vocabulary knows. [label.Parse] looks up each
// traffic.* label in [label.Table], the one place where a key is spelled. There the entry of traffic.endpoint.weight
// says on which kinds it means something, what its values are and which field of [label.Settings] it sets. "10" becomes
// Settings.Weight = 10; "ten" would become a [label.Problem] and leave the weight at 100.
//
// The projection differs from the last one, so the mesh notes the label change for the log and marks what the event
// concerns: Deployment -> ReplicaSets -> Pods -> EndpointSlices -> Services. Here that is one Service, reviews, of
// perhaps ten thousand. [mesh.Mesh.Flush] computes this one: its open ports and their endpoints, each with the weight
// of its pod, or else of its workload. The result is another than before and goes on.
//
// [envoy.Snapshot] has [envoy.Translator] make the resources of each of the Service's ports: a cluster, its endpoints,
// a route, a listener for each address. Each is validated by Envoy's own rules and marshalled once, and its version is
// a hash of its bytes. The cluster, the route and the listeners have the versions that they had. So the
// [envoy.Update] is one resource: the endpoints 9080|default|reviews.outbound, in which some load_balancing_weight is
// now 10.
//
// The update is published to [serve], which sends it to every proxy that has the cluster, in as many bytes as those
// endpoints have, and waits for each to acknowledge or refuse it. When all have, the log says who changed what:
//
//	{"msg":"label changed","object":"Deployment default/reviews-v2","key":"traffic.endpoint.weight","old":"","new":"10",
//	"set":1,"removed":0,"proxies":100,"acknowledged":100,"rejected":0,"gone":0,"late":0,"took":"8.2ms"}
//
// Envoy weighs its next pick of an endpoint by it. No connection was closed, and no pod was touched.
//
// Had the value been wrong, [report] would have written an Event on the Deployment that says so.
//
// An Ingress takes the same way to other proxies. [watch] hands it to [ingress.Gateway], which stands beside the mesh and asks
// it for the ports of Services: whose path and whose certificate it is, is decided there. [envoy.Gateway] makes the resources,
// and [serve] sends them to the gateway's pods alone, whom it knows by their ServiceAccount. testdata/gateway.txtar begins that
// story.
//
// To see it happen, read testdata/weights-deployment.txtar. To add a label, add an entry to [label.Table] with a field
// in [label.Settings], and translate the field where the resource is made that it concerns: cluster.go, route.go or
// listener.go in package envoy. Then tell its story in testdata.
package xds
