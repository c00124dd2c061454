// Package report tells people, in Events on their objects, what labels do not do what they say.
//
// Every replica knows all problems; the one that holds the Lease writes. Each problem is an Event when it comes up, and
// again every half hour while it lasts, because Events expire. Its end is no Event: it is just not renewed.
//
// What a proxy refuses is an Event too, once for each version of the resource: every replica writes about its own proxies.
package report
