package main

import (
	"os"
	"runtime/debug"
)

// How much may be allocated between two collections, in per cent of what lives; Go's default is 100. Nearly all that lives
// here lives long, and an edit allocates little, so that the memory saved is more than the work added. The start allocates
// much that does not live, when proxies wait.
const gcPercent, gcPercentAtStart = 20, 50

func collectAt(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// saveMemory is for the time after the start.
func saveMemory() {
	collectAt(gcPercent)
	debug.FreeOSMemory()
}

// limitMemory collects as often as it takes to stay within what the container may use, but for a tenth that is not Go's or is
// given back late: a crowd of proxies that reconnect shall not have the kernel end the process, and so reconnect again.
func limitMemory(container int64) {
	if container > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(container / 10 * 9)
	}
}
