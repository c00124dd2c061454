package label

import (
	"strconv"
	"strings"
)

// A Percentage is from 0 to Hundred, in millionths of the whole: Envoy counts no finer.
type Percentage uint32

// Hundred per cent is the whole.
const Hundred Percentage = 1_000_000

// perCent is how many millionths are one per cent, decimals how many digits that leaves after the point.
const (
	perCent  = Hundred / 100
	decimals = 4
)

var percentage = valueType[Percentage]{
	expected: "a percentage from 0 to 100 with at most 4 decimal places, such as 0.5",
	parse: func(text string) (Percentage, string, error) {
		whole, fraction, point := strings.Cut(text, ".")
		if point && (fraction == "" || len(fraction) > decimals) {
			return 0, "", errNotValid
		}
		n, err := strconv.ParseUint(whole, 10, 8)
		if err != nil || n > 100 {
			return 0, "", errNotValid
		}
		millionths := Percentage(n) * perCent
		if point {
			f, err := strconv.ParseUint(fraction+strings.Repeat("0", decimals-len(fraction)), 10, 32)
			if err != nil {
				return 0, "", errNotValid
			}
			millionths += Percentage(f)
		}
		if millionths > Hundred {
			return 0, "", errNotValid
		}
		return millionths, "", nil
	},
}
