// Package ingress folds Ingresses, IngressClasses and Secrets into what the gateway serves: hosts with their routes, the
// ports that they lead to, and the certificates of hosts, one key at a time.
//
// It stands beside package mesh, which it asks for ports of Services. As there, an event marks what it concerns, and
// [Gateway.Flush] computes these alone; the result does not depend on the order of events.
//
// # Who has what
//
// Ingresses share hosts. Of those that claim a path of a host, or its certificate, the oldest has it; every other one is
// told, and has it as soon as the older is gone.
//
// # Hosts
//
// There is a [Host] for each host of a rule; its name is empty for rules without one. A wildcard stands for one label. A
// path that no rule of its host matches goes to the default backend of an Ingress with rules for the host, or else to that
// of an Ingress without any.
//
// # Certificates
//
// There is a [Certificate] for each Secret that has a host in tls[].hosts. Its domains are what a connection with this
// certificate may ask for. A Secret that cannot be used leaves its Certificate without a Pair: the gateway then shows
// one of its own, so that only who asks for these hosts sees that something is wrong.
package ingress
