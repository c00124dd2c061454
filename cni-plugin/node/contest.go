package node

import (
	"fmt"
	"slices"
	"time"
)

// A contest is about a file that another program writes as well: Cilium, for one,
// takes every entry but its own out of its configuration at once. Two that answer
// each other without a limit keep the container runtime reloading, and write for
// ever. So after limit rewrites within window there is one every pause, until what
// was written has stayed for a window.
type contest struct {
	limit         int
	window, pause time.Duration // pause is the shorter one

	wrote    map[string]bool // files that have had our entry from us
	rewrites []time.Time     // of such files, within the last window
	path     string          // the last one
	last     time.Time       // when it was rewritten
	on       bool
}

func newContest() contest {
	return contest{limit: 5, window: time.Minute, pause: 15 * time.Second, wrote: map[string]bool{}}
}

// holds reports whether a plan must wait, because the contest is on and the last
// rewrite was a moment ago.
func (c *contest) holds(changes []change, now time.Time) bool {
	return c.on && now.Before(c.last.Add(c.pause)) && slices.ContainsFunc(changes, c.undone)
}

// undone reports a change that writes again what was written before.
func (c *contest) undone(ch change) bool {
	return ch.data != nil && c.wrote[ch.path]
}

// note takes down what a pass carried out; the contest begins or ends with it. It
// does not end with a pass that failed: who knows then whether our entry is in.
func (c *contest) note(done []change, now time.Time, failure error) {
	c.rewrites = slices.DeleteFunc(c.rewrites, func(t time.Time) bool { return now.Sub(t) >= c.window })
	for _, ch := range done {
		if c.undone(ch) {
			c.rewrites, c.path, c.last = append(c.rewrites, now), ch.path, now
		}
		if ch.data != nil {
			c.wrote[ch.path] = true
		}
	}
	c.on = len(c.rewrites) > c.limit || c.on && (failure != nil || len(c.rewrites) > 0)
}

// wait is the time until there is something to do that no event tells of: a
// rewrite, or the end of the contest. It is 0 when there is no contest, or when it
// is over once a pass succeeds.
func (c *contest) wait(now time.Time) time.Duration {
	if !c.on {
		return 0
	}
	if pause := c.last.Add(c.pause).Sub(now); pause > 0 {
		return pause
	}
	return max(c.last.Add(c.window).Sub(now), 0)
}

// err says while the contest is on what must change for it to end.
func (c *contest) err() error {
	if !c.on {
		return nil
	}
	return fmt.Errorf("CNI configuration %s: another program takes our entry out whenever it is put in (%d times within %s); "+
		"it is put in every %s now, and pods that start meanwhile wait until they are repaired. "+
		"Have that program leave the entries of others alone: Cilium does with cni.exclusive=false",
		c.path, len(c.rewrites), c.window, c.pause)
}
