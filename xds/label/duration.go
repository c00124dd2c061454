package label

import (
	"fmt"
	"strconv"
	"time"
)

const (
	// minDuration is what Envoy can tell from 0.
	minDuration = time.Millisecond
	maxDuration = 8760 * time.Hour
	// bareNanoseconds is the least number without a unit that counts nanoseconds; smaller ones count milliseconds.
	bareNanoseconds = 1_000_000
)

var duration = valueType[time.Duration]{
	expected: "a duration from 1ms to 8760h, such as 3s",
	parse: func(text string) (time.Duration, string, error) {
		return parseDuration(text, minDuration)
	},
}

var durationOrNone = valueType[time.Duration]{
	expected: "0 or a duration from 1ms to 8760h, such as 3s",
	parse: func(text string) (time.Duration, string, error) {
		if text == "0" {
			return 0, "", nil
		}
		return parseDuration(text, 0)
	},
}

// parseDuration returns 0 or a duration from minDuration to maxDuration, and at least least. A number without a unit is
// accepted, with a note of what it counts as.
func parseDuration(text string, least time.Duration) (d time.Duration, note string, err error) {
	if n, err := strconv.ParseUint(text, 10, 63); err == nil {
		d = time.Duration(n)
		if n < bareNanoseconds {
			d *= time.Millisecond
		}
		note = fmt.Sprintf("counts as %s, which is the way to write it", d)
	} else if d, err = time.ParseDuration(text); err != nil {
		return 0, "", errNotValid
	}
	if d < least || d > maxDuration || d != 0 && d < minDuration {
		return 0, "", errNotValid
	}
	return d, note, nil
}

// ttl is of a cookie, of which clients count whole seconds: a number without a unit counts them too.
var ttl = valueType[time.Duration]{
	expected: "seconds or a duration up to 8760h of whole seconds, such as 3600 or 1h, or 0",
	parse: func(text string) (time.Duration, string, error) {
		d, err := time.ParseDuration(text)
		if n, numErr := strconv.ParseUint(text, 10, 63); numErr == nil {
			d, err = time.Duration(min(n, uint64(maxDuration/time.Second)+1))*time.Second, nil
		}
		if err != nil || d < 0 || d > maxDuration || d%time.Second != 0 {
			return 0, "", errNotValid
		}
		return d, "", nil
	},
}
