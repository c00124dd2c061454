package serve

import "time"

// Applied says how an Update ended at the proxies that it concerned.
type Applied struct {
	// Proxies is how many proxies were sent something: Acknowledged + Rejected + Gone.
	Proxies int
	// Acknowledged counts the proxies that took all of it, Rejected those that refused a resource and keep its last
	// good version, Gone those that disconnected first; they catch up when they are back.
	Acknowledged, Rejected, Gone int
	// Took is the time from Publish to the last answer.
	Took time.Duration
}
