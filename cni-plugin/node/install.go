package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

// installer keeps the plugin where the container runtime runs it.
type installer struct {
	confDir, binDir string
	source          string // of the binary
	configured      string // back end, perhaps auto
	strictStatus    bool
	resolve         func(backend string) (string, error)
	boot            string // id of the node's boot
	metrics         *metrics
	log             *slog.Logger

	backend string // the one that works on this node; empty until known
	// compared is source and installed binary as they were found to be the same.
	compared [2]fileState
	contest  contest
}

// pass makes the runtime call our plugin for pods that start from now on. It
// says whether it had to change the configuration: pods that started before may
// have been missed. An error means that new pods are not redirected.
//
// The binary comes before the entry that names it, so that no runtime is ever
// told to run what is not there.
func (i *installer) pass(now time.Time) (rewritten bool, err error) {
	if err := i.findBackend(); err != nil {
		return false, err
	}
	if err := i.keepBinary(); err != nil {
		return false, err
	}
	ours := plugin.NewEntry(i.backend, i.strictStatus)
	if i.configured == apply.Auto {
		ours.Boot = i.boot
	}
	entry, err := json.Marshal(ours)
	if err != nil {
		return false, err
	}
	rewritten, done, err := i.carryOut(func() ([]change, error) {
		changes, err := planInstall(i.confDir, entry)
		if err == nil && i.contest.holds(changes, now) {
			changes = nil
		}
		return changes, err
	})
	i.contest.note(done, now, err)
	return rewritten, err
}

func (i *installer) binary() string {
	return filepath.Join(i.binDir, plugin.Type)
}

// keepBinary installs the plugin unless it is there. It reads the two files only
// when one of them has changed: they are megabytes, and passes are many.
func (i *installer) keepBinary() error {
	state := [2]fileState{stateOf(i.source), stateOf(i.binary())}
	if state == i.compared && state[1] != (fileState{}) {
		return nil
	}
	installed, err := installBinary(i.source, i.binary())
	if err != nil {
		return err
	}
	if installed {
		i.metrics.writes.WithLabelValues("binary").Inc()
		i.log.Info("installed the CNI plugin", "path", i.binary())
		return nil // compared by the next pass
	}
	i.compared = state
	return nil
}

// findBackend looks once for what works, so that the plugin need not try at
// each pod: it finds the name in its entry.
func (i *installer) findBackend() error {
	if i.backend != "" {
		return nil
	}
	backend, err := i.recordedBackend()
	recorded := err == nil
	if !recorded {
		i.log.Debug("no record of how redirect rules are written", "error", err)
		backend, err = i.resolve(i.configured)
	}
	if err != nil {
		return fmt.Errorf("pods cannot be redirected on this node: %w", err)
	}
	i.backend = backend
	i.metrics.backend.WithLabelValues(backend).Set(1)
	i.log.Info("found how to write redirect rules", "backend", backend, "configured", i.configured, "recorded", recorded, "boot", i.boot)
	return nil
}

// recordedBackend is what an agent of this boot found before, if it still works:
// running pods have its rules, and a second look might find another.
func (i *installer) recordedBackend() (string, error) {
	if i.configured != apply.Auto {
		return "", errors.New("it is configured")
	}
	entry, err := chainedEntry(i.confDir)
	switch {
	case err != nil:
		return "", err
	case entry.Boot != i.boot || entry.Backend == apply.Auto:
		return "", errors.New("it was found in another boot of the node")
	}
	return i.resolve(entry.Backend)
}

// bootID is the kernel's name for the time since the node started; empty if it
// has none.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// carryOut makes the changes of a plan, and plans again when another program
// wrote a file in the meantime. It says whether there was something to change, and
// what of that is done.
func (i *installer) carryOut(plan func() ([]change, error)) (changed bool, done []change, err error) {
	const attempts = 5
	for range attempts {
		changes, planErr := plan()
		changed = changed || len(changes) > 0
		applied, applyErr := i.applyAll(changes)
		done = append(done, applied...)
		err = errors.Join(planErr, applyErr)
		if !errors.Is(err, errChanged) {
			break
		}
	}
	return changed, done, err
}

func (i *installer) applyAll(changes []change) (done []change, err error) {
	var errs []error
	for _, c := range changes {
		if err := c.apply(); err != nil {
			errs = append(errs, err)
			continue
		}
		done = append(done, c)
		i.metrics.writes.WithLabelValues("conflist").Inc()
		verb := "wrote the CNI configuration"
		if c.data == nil {
			verb = "removed a CNI configuration of ours"
		}
		i.log.Info(verb, "path", c.path)
	}
	return done, errors.Join(errs...)
}
