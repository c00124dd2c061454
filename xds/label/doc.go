// Package label is the vocabulary of traffic.* labels: one typed table, from which labels are parsed.
//
// It is the only place where a label key is spelled. To add a label, add an entry to [Table] and a field to [Settings];
// what the field does to Envoy is one translation in package envoy.
package label
