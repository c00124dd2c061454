package node

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// An add-on that takes our entry out whenever it is put in must not make the two
// rewrite for ever while the node looks ready: the agent says which file it is
// about and what to set, tries seldom, and is ready again once it is left alone.
func TestContestedConfiguration(t *testing.T) {
	n := newNode(t)
	list := n.conflist("05-cilium.conflist", bridge)
	const pause, window = 10 * time.Millisecond, 50 * time.Millisecond
	begun, passed := time.Now(), atomic.Int64{} // the contest's clock stands still but for what the test adds
	n.begin(func(a *Agent) {
		a.now = func() time.Time { return begun.Add(time.Duration(passed.Load())) }
		c := &a.installer.contest
		c.limit, c.window, c.pause = 2, window, pause
	})
	n.awaitReady()
	chained := func() bool {
		data, err := os.ReadFile(list)
		return err == nil && bytes.Contains(data, []byte(plugin.Type))
	}
	takeOut := func() { n.conflist("05-cilium.conflist", bridge) }
	for range 3 {
		takeOut()
		n.await("the entry is back", chained)
	}
	n.await("the reason shows", func() bool {
		why := n.get("/readyz")
		return strings.HasPrefix(why, "503") && strings.Contains(why, list) && strings.Contains(why, "cni.exclusive=false")
	})
	n.awaitEventOn("default", "node-1", reasonContested, "cni.exclusive=false")
	for range 2 { // one rewrite a pause
		takeOut()
		seen := n.passes()
		n.await("looks again though no event tells it to", func() bool { return n.passes() >= seen+3 })
		if chained() {
			t.Fatal("rewritten before the pause is over")
		}
		passed.Add(int64(pause))
		n.await("the entry is back after the pause", chained)
	}
	passed.Add(int64(window))
	n.awaitReady()
	n.awaitEventOn("default", "node-1", reasonSettled, list)
	if !chained() {
		t.Error("ready without the entry")
	}
}

// passes is how often the agent looked at everything.
func (n *testNode) passes() (count int) {
	n.Helper()
	const counter = "traffic_node_pass_seconds_count "
	_, text, _ := strings.Cut(n.get("/metrics"), counter)
	if _, err := fmt.Sscan(text, &count); err != nil {
		n.Fatalf("metric %s: %v", counter, err)
	}
	return count
}

// An install that fails during a contest is tried again by the loop's back-off: a
// contest that wakes the loop as well fills the log with the same error for ever.
// Nor is it over before our entry is known to be in.
func TestContestLeavesFailuresToTheBackOff(t *testing.T) {
	n := newNode(t)
	list := n.conflist("05-cilium.conflist", bridge)
	a := newAgent(n.config, n.client, slog.New(slog.DiscardHandler), n.kernel.in, n.resolve)
	c := &a.installer.contest
	c.limit = 0
	now := time.Now()
	for range 2 {
		if _, err := a.install(now); err != nil {
			t.Fatal(err)
		}
		n.conflist("05-cilium.conflist", bridge)
		now = now.Add(time.Second)
	}
	if !c.on || !a.later.Stop() {
		t.Fatal("no contest, or nobody looks at it again")
	}
	write(t, list, []byte("{"), 0o644)
	for _, since := range []time.Duration{0, c.pause, c.window, 2 * c.window} {
		if _, err := a.install(now.Add(since)); err == nil {
			t.Fatal("installed into a file that is none")
		}
		if wait := c.wait(now.Add(since)); a.later.Stop() || wait == time.Millisecond {
			t.Errorf("%s after a failure it is tried again in %s", since, wait)
		}
		if c.err() == nil {
			t.Errorf("%s after a failure the contest is over", since)
		}
	}
	n.conflist("05-cilium.conflist", bridge)
	now = now.Add(3 * c.window)
	if _, err := a.install(now); err != nil || !a.later.Stop() {
		t.Errorf("once the file is good, %v, or the end is not waited for", err)
	}
	if _, err := a.install(now.Add(c.window)); err != nil || c.on {
		t.Errorf("not over: %v, %v", err, c.err())
	}
}

// A rewrite counts although another change of the same pass failed.
func TestContestCountsWhatFailuresLeave(t *testing.T) {
	n := newNode(t)
	n.conflist("05-cilium.conflist", bridge)
	if err := os.MkdirAll(filepath.Join(n.config.ConfDir, "10-old"+derivedSuffix, "cannot-be-removed"), 0o755); err != nil {
		t.Fatal(err)
	}
	a := newAgent(n.config, n.client, slog.New(slog.DiscardHandler), n.kernel.in, n.resolve)
	a.installer.contest.limit = 0
	for range 2 {
		if _, err := a.install(time.Now()); err == nil {
			t.Fatal("removed what cannot be removed")
		}
		n.conflist("05-cilium.conflist", bridge)
	}
	if a.installer.contest.err() == nil {
		t.Error("two rewrite the file for ever")
	}
}

// A network add-on that is upgraded writes its file a few times, which is no
// contest; and a contest lasts until what was written has stayed for a minute.
func TestContest(t *testing.T) {
	c := newContest()
	now := time.Now()
	ours := []change{{path: "/etc/cni/net.d/05-cilium.conflist", data: []byte("ours")}}
	for range c.limit + 1 { // the first one undoes nothing
		if c.holds(ours, now) {
			t.Fatal("holds back what is no contest")
		}
		c.note(ours, now, nil)
		now = now.Add(time.Second)
	}
	if err := c.err(); err != nil || c.wait(now) != 0 {
		t.Fatalf("%d rewrites are a contest: %v, wait %s", c.limit, err, c.wait(now))
	}
	c.note(ours, now, nil)
	if err := c.err(); err == nil || !strings.Contains(err.Error(), "05-cilium.conflist") {
		t.Fatalf("one more is none: %v", err)
	}
	for range 20 { // as long as the other one insists
		if wait := c.wait(now); wait != c.pause || !c.holds(ours, now.Add(wait-1)) || c.holds(ours, now.Add(wait)) {
			t.Fatalf("waits %s, want %s", wait, c.pause)
		}
		if c.holds([]change{{path: "/etc/cni/net.d/10-other.conflist", data: []byte("ours")}}, now) {
			t.Fatal("holds back the first rewrite of another file")
		}
		now = now.Add(c.pause)
		c.note(ours, now, nil)
		if c.err() == nil {
			t.Fatal("over while the other one insists")
		}
	}
	now = now.Add(c.window - 1)
	c.note(nil, now, nil)
	if c.err() == nil || c.wait(now) <= 0 {
		t.Fatal("over before a window has passed, or never looked at again")
	}
	c.note(nil, now.Add(c.wait(now)), nil)
	if err := c.err(); err != nil {
		t.Fatalf("not over: %v", err)
	}
}
