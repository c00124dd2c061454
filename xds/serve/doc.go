// Package serve brings every connected Envoy to the published resources over delta ADS, in an order that drops no
// request.
package serve
