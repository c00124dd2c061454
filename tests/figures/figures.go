// Package figures prints what benchmarks measure, all in one form.
package figures

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"text/tabwriter"
	"time"
)

// Rounds is how often each figure is taken.
var Rounds = flag.Int("rounds", 5, "how often each figure is taken")

// A Table is what a benchmark measured, a value for each round.
type Table struct {
	names  []string // in the order in which they first came
	values map[string][]float64
	goals  map[string]float64
	load   string // before the first
}

// New makes a table before the benchmark loads the machine.
func New() *Table {
	return &Table{values: map[string][]float64{}, goals: map[string]float64{}, load: load()}
}

// Add takes the figure of a round. The last word of the name is its unit.
func (t *Table) Add(name string, value float64) {
	if t.values[name] == nil {
		t.names = append(t.names, name)
	}
	t.values[name] = append(t.values[name], value)
}

// Goal is what a figure should stay below; it fails nothing, because the time depends on the machine.
func (t *Table) Goal(name string, limit float64) { t.goals[name] = limit }

// Times adds the median and the 99th percentile of many times.
func (t *Table) Times(name string, all []time.Duration) {
	for _, p := range []int{50, 99} {
		t.Add(fmt.Sprintf("%s p%d ms", name, p), Milliseconds(Percentile(all, p)))
	}
}

// Print prints the median of the rounds for each figure, the lowest and the highest, and on what machine, how busy.
func (t *Table) Print(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "%d rounds\tmedian\tlowest\thighest\tgoal\n", *Rounds)
	for _, name := range t.names {
		sorted := slices.Sorted(slices.Values(t.values[name]))
		middle, goal := sorted[len(sorted)/2], ""
		if limit, ok := t.goals[name]; ok {
			goal = fmt.Sprintf("%.4g", limit)
		}
		fmt.Fprintf(w, "%s\t%.4g\t%.4g\t%.4g\t%s\n", name, middle, sorted[0], sorted[len(sorted)-1], goal)
		b.ReportMetric(middle, strings.ReplaceAll(name, " ", "-"))
	}
	_ = w.Flush()
	// Not b.Log, of which only ten lines are printed.
	fmt.Printf("\n%s on %s; load average %s before, %s after\n%s", b.Name(), machine(), t.load, load(), &text)
}

// machine is what figures depend on.
func machine() string {
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	processor := "processors"
	if all, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if _, after, ok := bytes.Cut(all, []byte("model name")); ok {
			line, _, _ := bytes.Cut(after, []byte("\n"))
			processor = strings.TrimLeft(string(line), "\t :")
		}
	}
	return fmt.Sprintf("%d x %s, Linux %s, %s", runtime.NumCPU(), processor, bytes.TrimSpace(kernel), runtime.Version())
}

// load is how many tasks ran or waited to run, in the last 1, 5 and 15 minutes.
func load() string {
	text, err := os.ReadFile("/proc/loadavg")
	words := strings.Fields(string(text))
	if err != nil || len(words) < 3 {
		return "unknown"
	}
	return strings.Join(words[:3], " ")
}

// Percentile returns the value that p of 100 do not exceed.
func Percentile(all []time.Duration, p int) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)*p+99)/100-1]
}

// Milliseconds is a time as a figure.
func Milliseconds(d time.Duration) float64 { return d.Seconds() * 1000 }
