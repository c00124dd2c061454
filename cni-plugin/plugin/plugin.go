// Package plugin is the chained CNI plugin: it takes the redirect spec that the
// runtime hands over with the pod's annotations and has package apply put it
// into the pod's network namespace. It makes no API call.
//
// A pod without the annotation costs a parse and nothing else. A pod with it
// starts redirected or not at all.
package plugin

import (
	"fmt"
	"io"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/containernetworking/cni/pkg/version"
	"github.com/containernetworking/plugins/pkg/ns"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// MinVersion is the oldest version of the CNI specification that is spoken, the
// first one whose results can be chained as they are today. The newest is the
// library's.
const MinVersion = "0.3.1"

// Versions are the versions of the CNI specification that are spoken. A runtime
// that calls with another is refused, whatever the pod.
func Versions() version.PluginInfo {
	return version.VersionsStartingFrom(MinVersion)
}

// codeRedirect is the CNI error code of a pod that cannot be redirected; codes
// from 100 on are a plugin's own.
const codeRedirect = 100

// Plugin is the verbs of one run.
type Plugin struct {
	// Stdout receives the result of ADD.
	Stdout io.Writer
	// In and Resolve are those of apply.Host.
	In      func(netnsPath, backend string, do func(apply.Backend, ns.NetNS) error) error
	Resolve func(backend string) (string, error)
	// Report is told of each pod that was to be redirected.
	Report func(Report)
}

// Funcs are the verbs for skel. A panic in one becomes its error, so that the
// runtime gets JSON whatever happens.
func (p Plugin) Funcs() skel.CNIFuncs {
	return skel.CNIFuncs{
		Add:    recovered(p.Add),
		Del:    recovered(p.Del),
		Check:  recovered(p.Check),
		GC:     recovered(p.GC),
		Status: recovered(p.Status),
	}
}

func recovered(verb func(*skel.CmdArgs) error) func(*skel.CmdArgs) error {
	return func(args *skel.CmdArgs) (err error) {
		defer func() {
			if r := recover(); r != nil {
				err = types.NewError(types.ErrInternal, fmt.Sprintf("traffic-cni panicked: %v", r), "this is a bug in traffic-cni")
			}
		}()
		return verb(args)
	}
}

// Add redirects the pod if it is annotated and prints the result of the plugin
// before it byte for byte.
func (p Plugin) Add(args *skel.CmdArgs) error {
	c, spec, err := load(args)
	if err != nil {
		return err
	}
	if spec != nil {
		began := time.Now()
		err := p.In(args.Netns, c.Entry.Backend, func(b apply.Backend, netns ns.NetNS) error {
			return b.Apply(netns, *spec)
		})
		p.Report(Report{Seconds: time.Since(began).Seconds(), Failed: err != nil})
		if err != nil {
			return podError(args.Args, "cannot be redirected", err)
		}
	}
	if _, err := fmt.Fprintf(p.Stdout, "%s\n", c.PrevResult); err != nil {
		return types.NewError(types.ErrIOFailure, "traffic-cni: cannot print the result", err.Error())
	}
	return nil
}

// Check reports an annotated pod whose rules are not those of its spec.
func (p Plugin) Check(args *skel.CmdArgs) error {
	c, spec, err := load(args)
	if err != nil || spec == nil {
		return err
	}
	if err := p.In(args.Netns, c.Entry.Backend, func(b apply.Backend, netns ns.NetNS) error {
		return b.Check(netns, *spec)
	}); err != nil {
		return podError(args.Args, "is not redirected as its annotation says", err)
	}
	return nil
}

// Del takes the rules of an annotated pod out of a namespace that outlives the
// pod. It always succeeds: as a rule the namespace goes and takes its rules
// along, and a DEL that fails keeps the pod from going away for nothing.
func (p Plugin) Del(args *skel.CmdArgs) error {
	c, err := parse(args.StdinData)
	if err != nil || !c.annotated() || args.Netns == "" {
		return nil
	}
	_ = p.In(args.Netns, c.Entry.Backend, func(b apply.Backend, netns ns.NetNS) error {
		return b.Remove(netns)
	})
	return nil
}

// GC has nothing to collect: what we write lives and dies with the namespace.
func (p Plugin) GC(*skel.CmdArgs) error {
	return nil
}

// Status succeeds, unless the configuration is strict and no back end works:
// its error makes the whole node NotReady, for pods that never opted in too.
func (p Plugin) Status(args *skel.CmdArgs) error {
	e, err := parseEntry(args.StdinData)
	if !e.StrictStatus {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := p.Resolve(e.Backend); err != nil {
		return types.NewError(types.ErrPluginNotAvailable, "pods cannot be redirected on this node", err.Error())
	}
	return nil
}

// load reads the configuration of a chained plugin and the pod's spec, nil if
// the pod has none.
func load(args *skel.CmdArgs) (*config, *redirect.Spec, error) {
	c, err := parse(args.StdinData)
	if err != nil {
		return nil, nil, err
	}
	if err := c.requireChained(); err != nil {
		return nil, nil, err
	}
	if !c.annotated() {
		return c, nil, nil
	}
	spec, err := redirect.Decode(c.RuntimeConfig.PodAnnotations[redirect.Annotation])
	if err != nil {
		return nil, nil, types.NewError(types.ErrInvalidNetworkConfig,
			fmt.Sprintf("%s: annotation %s", podName(args.Args), redirect.Annotation), err.Error())
	}
	return c, &spec, nil
}

func podError(cniArgs, what string, err error) error {
	return types.NewError(codeRedirect, fmt.Sprintf("%s %s", podName(cniArgs), what), err.Error())
}
