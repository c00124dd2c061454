package label

import (
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

var upstream = valueType[Upstream]{
	expected: "http, https, http2, grpc or grpcs",
	parse: func(text string) (Upstream, string, error) {
		switch strings.ToLower(text) {
		case "http":
			return UpstreamHTTP, "", nil
		case "http2", "grpc":
			return UpstreamHTTP2, "", nil
		case "https":
			return UpstreamHTTPS, "", nil
		case "grpcs":
			return UpstreamGRPCS, "", nil
		}
		return 0, "", errNotValid
	},
}

// maxBody is what a gateway may be asked to hold of one request.
const maxBody = 1 << 30

// bodySize counts as Kubernetes does: Ki and Mi are powers of two.
var bodySize = valueType[uint32]{
	expected: "bytes from 1 to 1Gi, as 65536, 64Ki or 8Mi",
	parse: func(text string) (uint32, string, error) {
		digits, unit := text, uint64(1)
		for suffix, factor := range map[string]uint64{"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30} {
			if rest, ok := strings.CutSuffix(text, suffix); ok {
				digits, unit = rest, factor
			}
		}
		n, err := strconv.ParseUint(digits, 10, 32)
		if err != nil || n == 0 || n > math.MaxUint32/unit || n*unit > maxBody {
			return 0, "", errNotValid
		}
		return uint32(n * unit), "", nil
	},
}

// maxSourceRanges is three times what a content delivery network has: each path of the Ingress has them all.
const maxSourceRanges = 64

// sourceRanges takes all or nothing: half a list of who is let in is a list that nobody wrote.
var sourceRanges = valueType[[]netip.Prefix]{
	expected: "addresses and ranges, at most " + strconv.Itoa(maxSourceRanges) + ", separated by commas, as 10.0.0.0/8,2001:db8::1",
	parse: func(text string) ([]netip.Prefix, string, error) {
		var ranges []netip.Prefix
		for part := range strings.SplitSeq(text, ",") {
			prefix, err := sourceRange(strings.TrimSpace(part))
			if err != nil {
				return nil, "", errNotValid
			}
			ranges = append(ranges, prefix)
		}
		slices.SortFunc(ranges, netip.Prefix.Compare)
		if ranges = slices.Compact(ranges); len(ranges) > maxSourceRanges {
			return nil, "", errNotValid
		}
		return ranges, "", nil
	},
}

func sourceRange(text string) (netip.Prefix, error) {
	if address, err := netip.ParseAddr(text); err == nil && address.Zone() == "" {
		address = address.Unmap()
		return address.Prefix(address.BitLen())
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if prefix.Addr().Is4In6() {
		return netip.Prefix{}, errNotValid
	}
	return prefix.Masked(), nil
}
