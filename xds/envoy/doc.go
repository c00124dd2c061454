// Package envoy translates the mesh into Envoy resources.
package envoy
