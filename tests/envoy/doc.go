// Package envoy holds the control plane's resources to the real Envoy.
package envoy
