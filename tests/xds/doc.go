// Package xds holds tests of xds/serve with a real Envoy: the bootstrap of webhook/inject, the redirect of cni-plugin,
// resources of xds/envoy, in network namespaces made for the test.
package xds
