// Package report tells people, in Events on their objects, what labels do not do what they say.
//
// Every replica knows all problems; the one that holds the Lease writes. Each problem is an Event when it comes up, and
// again every half hour while it lasts, because Events expire. Its end is no Event: it is just not renewed.
//
// What a proxy refuses is an Event too, once for each version of the resource and namespace of proxies: every replica writes
// about its own proxies. A pod can refuse whatever it likes, so what it says is not in the Event but in the log.
package report
