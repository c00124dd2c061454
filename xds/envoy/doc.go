// Package envoy translates the mesh into Envoy resources.
//
// An open port becomes a cluster with its endpoints, a route, and one listener for each address. Only opening, closing
// and changing the protocol of a port concern a listener: whatever else a label says is in the route, the cluster or
// the endpoints, so that it acts without touching a connection.
//
// A connection that the client has aimed at one address stays there: of direct ports, and of the tcp ports of headless
// Services. The http ports of a headless Service tell requests by the Service's name, which are balanced, from all others.
package envoy
