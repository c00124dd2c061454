// Package ingress holds the ingress gateway to what Ingresses mean: a real Envoy, our control plane and servers behind
// Services, in network namespaces made for the test.
package ingress
