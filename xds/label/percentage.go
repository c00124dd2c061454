package label

import (
	"fmt"
	"strconv"
	"strings"
)

// A Percentage is from 0 to Hundred, in millionths of the whole.
type Percentage uint32

// Hundred per cent is the whole.
const Hundred Percentage = 1_000_000

// percentage accepts so many digits after the point, which are no more than Envoy can tell apart.
func percentage(decimals int) valueType[Percentage] {
	return valueType[Percentage]{
		expected: fmt.Sprintf("a percentage from 0 to 100 with at most %d decimal places, such as 0.5", decimals),
		parse: func(text string) (Percentage, string, error) {
			whole, fraction, point := strings.Cut(text, ".")
			if point && (fraction == "" || len(fraction) > decimals) {
				return 0, "", errNotValid
			}
			n, err := strconv.ParseUint(whole, 10, 8)
			if err != nil || n > 100 {
				return 0, "", errNotValid
			}
			const digits = 4 // of a per cent, down to a millionth of the whole
			f, err := strconv.ParseUint(fraction+strings.Repeat("0", digits-len(fraction)), 10, 32)
			if err != nil {
				return 0, "", errNotValid
			}
			millionths := Percentage(n)*(Hundred/100) + Percentage(f)
			if millionths > Hundred {
				return 0, "", errNotValid
			}
			return millionths, "", nil
		},
	}
}

// Faults are drawn from a million, traces from ten thousand.
var (
	faultPercentage    = percentage(4)
	samplingPercentage = percentage(2)
)
