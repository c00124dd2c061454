// Package envoy translates the mesh into Envoy resources.
//
// An open port becomes a cluster with its endpoints, a route, and one listener for each address. Only opening, closing
// and changing the protocol of a port concern a listener: whatever else a label says is in the route, the cluster or
// the endpoints, so that it acts without touching a connection.
package envoy
