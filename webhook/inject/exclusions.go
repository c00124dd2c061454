package inject

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// Pod annotations that exclude destinations from the redirect, besides those excluded in all pods: addresses and
// networks, ports and ranges of ports, separated by commas.
const (
	ExcludeCIDRsAnnotation = "traffic.envoy.exclude-cidrs"
	ExcludePortsAnnotation = "traffic.envoy.exclude-ports"
)

// ParseCIDR reads "10.0.0.0/8", "fd00::/8" or a single address.
func ParseCIDR(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil && addr.Zone() == "" && !addr.Is4In6() {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	prefix, err := netip.ParsePrefix(text)
	switch {
	case err != nil || prefix.Addr().Is4In6():
		return netip.Prefix{}, fmt.Errorf("%q: expected an address or a network such as 10.0.0.0/8", text)
	case prefix != prefix.Masked():
		return netip.Prefix{}, fmt.Errorf("%q: expected %s, without host bits", text, prefix.Masked())
	}
	return prefix, nil
}

// ParsePorts reads "5432" or "8000-8100".
func ParsePorts(text string) (redirect.PortRange, error) {
	var ports redirect.PortRange
	if err := ports.UnmarshalText([]byte(text)); err != nil {
		return ports, fmt.Errorf("%q: expected a port or a range such as 8000-8100", text)
	}
	return ports, nil
}

// maxList is how long a list may be in bytes: several times the longest that can be meant. The webhook is asked before the API server
// looks at the length of annotations, and a million bad items would fill its memory with what is wrong with each.
const maxList = 16 << 10

// ParseList reads values that are separated by commas. The good ones count even if others are bad.
func ParseList[T any](text string, parse func(string) (T, error)) (values []T, errs []error) {
	if len(text) > maxList {
		return nil, []error{fmt.Errorf("%d bytes long, at most %d are possible", len(text), maxList)}
	}
	for item := range strings.SplitSeq(text, ",") {
		item = strings.TrimSpace(item)
		if item == "" {
			continue
		}
		value, err := parse(item)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		values = append(values, value)
	}
	return values, errs
}

// exclude adds what the pod's annotations exclude to the spec. What is not valid, or one too many, is left out with a
// warning: it stays redirected.
func exclude(spec redirect.Spec, annotations map[string]string) (redirect.Spec, []string) {
	var warnings []string
	spec.ExcludeCIDRs, warnings = excluded(spec.ExcludeCIDRs, annotations, ExcludeCIDRsAnnotation, redirect.MaxExcludeCIDRs, ParseCIDR)
	ports, more := excluded(spec.ExcludePorts, annotations, ExcludePortsAnnotation, redirect.MaxExcludePorts, ParsePorts)
	spec.ExcludePorts = ports
	return spec, append(warnings, more...)
}

func excluded[T any](always []T, annotations map[string]string, key string, limit int, parse func(string) (T, error)) ([]T, []string) {
	text := annotations[key]
	if text == "" {
		return always, nil
	}
	own, errs := ParseList(text, parse)
	all := slices.Concat(always, own)
	if len(all) > limit {
		errs = append(errs, fmt.Errorf("more than %d with those of all pods", limit))
		all = all[:limit]
	}
	warnings := make([]string, len(errs))
	for i, err := range errs {
		warnings[i] = fmt.Sprintf("annotation %s: %v; ignored", key, err)
	}
	return all, warnings
}
