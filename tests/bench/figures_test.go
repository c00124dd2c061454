package bench

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// rounds is how often each figure is taken.
var rounds = flag.Int("rounds", 5, "how often each figure is taken")

// figures are what a benchmark measured, a value for each round.
type figures struct {
	names  []string // in the order in which they first came
	values map[string][]float64
	goals  map[string]float64
}

func newFigures() *figures {
	return &figures{values: map[string][]float64{}, goals: map[string]float64{}}
}

// add takes the figure of a round. The last word of the name is its unit.
func (f *figures) add(name string, value float64) {
	if f.values[name] == nil {
		f.names = append(f.names, name)
	}
	f.values[name] = append(f.values[name], value)
}

// goal is what a figure should stay below; it fails nothing, because the time depends on the machine.
func (f *figures) goal(name string, limit float64) { f.goals[name] = limit }

// times adds the median and the 99th percentile of many times.
func (f *figures) times(name string, all []time.Duration) {
	for _, p := range []int{50, 99} {
		f.add(fmt.Sprintf("%s p%d ms", name, p), milliseconds(percentile(all, p)))
	}
}

// report prints the median of the rounds for each figure, the lowest and the highest, and how busy the machine is.
func (f *figures) report(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d rounds\tmedian\tlowest\thighest\tgoal\n", *rounds)
	for _, name := range f.names {
		sorted := slices.Sorted(slices.Values(f.values[name]))
		middle, goal := sorted[len(sorted)/2], ""
		if limit, ok := f.goals[name]; ok {
			goal = fmt.Sprintf("%.4g", limit)
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%s\n", name, middle, sorted[0], sorted[len(sorted)-1], goal)
		b.ReportMetric(middle, strings.ReplaceAll(name, " ", "-"))
	}
	_ = w.Flush()
	load, _ := os.ReadFile("/proc/loadavg")
	// Not b.Log, of which only ten lines are printed.
	fmt.Printf("\n%s, at load %s%s\n", b.Name(), load, &text)
}

// percentile returns the value that p of 100 do not exceed.
func percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)*p+99)/100-1]
}

func milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }

// memory returns a figure of a process's memory in MB: VmRSS, what is resident, or VmHWM, the most that ever was.
func memory(b *testing.B, pid int, field string) float64 {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			var kB float64
			if _, err := fmt.Sscan(value, &kB); err != nil {
				b.Fatal(err)
			}
			return kB * 1024 / 1e6
		}
	}
	b.Fatalf("process %d has no %s", pid, field)
	return 0
}
