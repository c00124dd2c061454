// Package apply puts the rules of a redirect spec into a network namespace,
// compares them with what is there, and takes them out again.
//
// A Backend is one way of doing so. All of them translate the same program, so
// package redirect is where to read what a pod's rules are.
package apply

import (
	"errors"
	"fmt"
	"strings"

	cnins "github.com/containernetworking/cni/pkg/ns"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// Backend writes, reads and removes the rules of one spec in one network
// namespace. Its methods may be called at any time, in any order, any number of
// times, and touch no rules but their own.
type Backend interface {
	// Name is how the configuration names the back end.
	Name() string
	// Probe reports why this kernel or host cannot do what Apply needs. It
	// leaves nothing behind.
	Probe(ns.NetNS) error
	// Apply makes the rules those of the spec, all at once, and reads them back.
	Apply(ns.NetNS, redirect.Spec) error
	// Check compares the rules with the spec: nil, ErrDiffers, or an error that
	// says why they cannot be read.
	Check(ns.NetNS, redirect.Spec) error
	// Remove takes the rules out; it is no error when there are none.
	Remove(ns.NetNS) error
}

var (
	// ErrDiffers is wrapped by Check when the rules are not those of the spec.
	ErrDiffers = errors.New("rules differ from the redirect spec")
	// ErrGone is wrapped by In when there is no such network namespace.
	ErrGone = errors.New("no such network namespace")
)

// Auto stands for the first back end that works.
const Auto = "auto"

// Host is the node on which rules are written.
type Host struct {
	// Root is where the node's file system is, for back ends that run programs of
	// the node; empty where it is this program's own.
	Root string
	// PassedOver, unless nil, is told of each back end that Auto found not to work.
	PassedOver func(backend string, err error)
}

// backends in the order in which Auto tries them.
func (h Host) backends() []Backend {
	return []Backend{Nftables{}, Iptables{Mode: ModeNFT, Root: h.Root}, Iptables{Mode: ModeLegacy, Root: h.Root}}
}

// Names lists what a configuration may name.
func Names() []string {
	names := []string{Auto}
	for _, b := range (Host{}).backends() {
		names = append(names, b.Name())
	}
	return names
}

// ValidateName reports a name that In and Resolve do not know.
func ValidateName(name string) error {
	for _, known := range Names() {
		if name == known {
			return nil
		}
	}
	return fmt.Errorf("backend %q: must be one of %s", name, strings.Join(Names(), ", "))
}

// RemoveOthers takes out the rules that back ends other than b wrote, from when
// the node was configured differently. It reports what may be left.
func (h Host) RemoveOthers(b Backend, netns ns.NetNS) error {
	var errs []error
	for _, other := range h.backends() {
		if other.Name() == b.Name() {
			continue
		}
		if err := other.Remove(netns); !errors.Is(err, errNotInstalled) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// In opens the network namespace at path and calls do with it and the back end
// of that name. Auto is the first back end whose probe succeeds in there.
func (h Host) In(path, name string, do func(Backend, ns.NetNS) error) (err error) {
	netns, err := open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, netns.Close()) }()
	b, err := h.choose(name, netns)
	if err != nil {
		return err
	}
	return do(b, netns)
}

// Resolve names the back end of that name that works on this node; it tries it
// in a network namespace made for that. Only Auto resolves to another name.
func (h Host) Resolve(name string) (resolved string, err error) {
	netns, err := ns.TempNetNS()
	if err != nil {
		return "", fmt.Errorf("make a network namespace: %w", err)
	}
	defer func() { err = errors.Join(err, netns.Close()) }()
	b, err := h.choose(name, netns)
	if err != nil {
		return "", err
	}
	if err := b.Probe(netns); err != nil {
		return "", err
	}
	return b.Name(), nil
}

func (h Host) choose(name string, netns ns.NetNS) (Backend, error) {
	return h.chooseOf(h.backends(), name, netns)
}

func (h Host) chooseOf(backends []Backend, name string, netns ns.NetNS) (Backend, error) {
	if err := ValidateName(name); err != nil {
		return nil, err
	}
	var failed []error
	for _, b := range backends {
		if name == b.Name() {
			return b, nil
		}
		if name != Auto {
			continue
		}
		err := b.Probe(netns)
		if err == nil {
			return b, nil
		}
		if h.PassedOver != nil {
			h.PassedOver(b.Name(), err)
		}
		failed = append(failed, fmt.Errorf("%s: %w", b.Name(), err))
	}
	return nil, fmt.Errorf("no back end works on this node: %w", errors.Join(failed...))
}

// open opens the network namespace at path. It refuses the one that this program
// runs in: that is the node's, and redirecting it would cut the node off.
func open(path string) (ns.NetNS, error) {
	netns, err := ns.GetNS(path)
	if err != nil {
		var missing ns.NSPathNotExistErr
		var other ns.NSPathNotNSErr
		// An ordinary file is what remains of a namespace whose mount is gone,
		// after a reboot for one.
		if errors.As(err, &missing) || errors.As(err, &other) {
			return nil, fmt.Errorf("%w: %w", ErrGone, err)
		}
		return nil, fmt.Errorf("network namespace %s: %w", path, err)
	}
	own, cniErr := cnins.CheckNetNS(path)
	switch {
	case cniErr != nil:
		err = fmt.Errorf("network namespace %s: %w", path, cniErr)
	case own:
		err = fmt.Errorf("network namespace %s is the node's own", path)
	default:
		return netns, nil
	}
	return nil, errors.Join(err, netns.Close())
}
