package node

import (
	"bytes"
	"os"
	"strings"
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
	n.begin(func(a *Agent) {
		a.installer.contest.window, a.installer.contest.pause = time.Second, 300*time.Millisecond
	})
	n.awaitReady()

	left, done := make(chan struct{}), make(chan int)
	go func() { done <- undo(list, left) }()
	n.await("the reason shows", func() bool {
		why := n.get("/readyz")
		return strings.HasPrefix(why, "503") && strings.Contains(why, list) && strings.Contains(why, "cni.exclusive=false")
	})
	n.awaitEventOn("default", "node-1", reasonContested, "cni.exclusive=false")
	begun := time.Now()
	close(left)
	undone := <-done
	n.awaitReady()
	// Between the two the agent has written once a pause, by no event's leave.
	if most := 7 + int(time.Since(begun)/(300*time.Millisecond)); undone > most {
		t.Errorf("wrote %d times, want at most %d", undone, most)
	}
	if data, err := os.ReadFile(list); err != nil || !bytes.Contains(data, []byte(plugin.Type)) {
		t.Errorf("in the end the file is %s, %v", data, err)
	}
	n.awaitEventOn("default", "node-1", reasonSettled, list)
}

// undo takes our entry out of a file as soon as it is there, until it is told to
// leave it, and counts how often.
func undo(path string, leave <-chan struct{}) (times int) {
	for {
		select {
		case <-leave:
			return times
		case <-time.After(time.Millisecond):
		}
		data, err := os.ReadFile(path)
		if err == nil && bytes.Contains(data, []byte(plugin.Type)) && os.WriteFile(path, []byte(bridge), 0o644) == nil {
			times++
		}
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
		c.note(ours, now)
		now = now.Add(time.Second)
	}
	if err := c.err(); err != nil || c.wait(now) != 0 {
		t.Fatalf("%d rewrites are a contest: %v, wait %s", c.limit, err, c.wait(now))
	}
	c.note(ours, now)
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
		c.note(ours, now)
		if c.err() == nil {
			t.Fatal("over while the other one insists")
		}
	}
	now = now.Add(c.window - 1)
	c.note(nil, now)
	if c.err() == nil || c.wait(now) <= 0 {
		t.Fatal("over before a window has passed, or never looked at again")
	}
	c.note(nil, now.Add(c.wait(now)))
	if err := c.err(); err != nil {
		t.Fatalf("not over: %v", err)
	}
}
