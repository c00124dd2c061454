// Package inject turns a Pod into the same Pod with an Envoy sidecar: what is read of it in, a few JSON patch operations out.
//
// It is pure, and it never rewrites what it was given: everything that it does not add is JSON-equal afterwards, fields
// that it does not know included. What it adds is the same in every pod, but for two annotations: the redirect spec and
// the pod's name in traces.
package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// Annotations that an injected pod gets, besides label.ProxyAnnotation and redirect.Annotation.
const (
	// BootstrapAnnotation is the BootstrapVersion that the pod will live with.
	BootstrapAnnotation = "traffic.envoy.bootstrap-version"
	// TokenFileAnnotation holds a file of Envoy's, which the pod mounts through the downward API.
	TokenFileAnnotation = "traffic.envoy.token-file"
	// ServiceAnnotation is the pod's name in traces.
	ServiceAnnotation = "traffic.envoy.service"
)

// TemplateLabelAnnotation is on a pod template whose label label.EnabledKey was copied from the workload, and holds the
// value that was copied. It is in the template and not on the workload, because that is what a rollback restores: a
// revision brings the label back together with the word whose it is.
const TemplateLabelAnnotation = "traffic.envoy.template-label"

// An Outcome is what became of a pod, as one word for logs and metrics.
type Outcome string

// The outcomes.
const (
	Injected        Outcome = "injected"
	AlreadyInjected Outcome = "already-injected" // by an earlier call; at most its containers were moved to the front
	HostNetwork     Outcome = "host-network"     // unchanged: the node's network is not ours to redirect
	Windows         Outcome = "windows"          // unchanged
	MirrorPod       Outcome = "mirror-pod"       // unchanged: it only shows a static pod
	OptedOut        Outcome = "opted-out"        // unchanged: the pod's own label is false
	Refused         Outcome = "refused"
)

// A Result says what to do with a pod.
type Result struct {
	Outcome Outcome
	// Name is what the pod is called, or what its name will begin with.
	Name string
	// Patch changes the pod; empty when it stays as it is.
	Patch []patch.Operation
	// Refusal says why the pod cannot be injected and what to do, when Outcome is Refused.
	Refusal string
	// Warnings are for the person who created the pod.
	Warnings []string
}

// An Injector adds one kind of sidecar. Its parts that are the same in every pod are marshalled once.
type Injector struct {
	config Config
	// containers are for the front of the init containers: the proxy, then the check. lean is the same without
	// resources, for pods that have some as a whole.
	containers, lean []jsontext.Value
	volumes          []jsontext.Value
	pullSecrets      map[string]jsontext.Value // by name
	annotations      map[string]string
	keepsGuaranteed  bool
}

// New makes an Injector, or says which values of the configuration are not valid.
func New(c Config) (*Injector, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	tokenFile, err := tokenFile()
	if err != nil {
		return nil, err
	}
	i := &Injector{config: c, keepsGuaranteed: c.keepsGuaranteed(), annotations: map[string]string{
		label.ProxyAnnotation: "sidecar",
		BootstrapAnnotation:   BootstrapVersion,
		TokenFileAnnotation:   tokenFile,
	}}
	if i.containers, err = c.initContainers(); err != nil {
		return nil, err
	}
	if i.lean, err = c.withoutResources().initContainers(); err != nil {
		return nil, err
	}
	for _, v := range volumes() {
		raw, err := marshalled(v)
		if err != nil {
			return nil, err
		}
		i.volumes = append(i.volumes, raw)
	}
	i.pullSecrets = map[string]jsontext.Value{}
	for _, name := range c.PullSecrets {
		if i.pullSecrets[name], err = marshalled(corev1.LocalObjectReference{Name: name}); err != nil {
			return nil, err
		}
	}
	return i, nil
}

// Pod injects a Pod. The error says that it is not one.
func (i *Injector) Pod(p *Pod) (Result, error) {
	if p.Metadata == nil || p.Spec == nil {
		return Result{}, errors.New("a pod without metadata or spec")
	}
	result, err := i.pod(p)
	result.Name = p.Metadata.DisplayName()
	return result, err
}

func (i *Injector) pod(p *Pod) (Result, error) {
	if outcome := optedOut(p); outcome != "" {
		return Result{Outcome: outcome}, nil
	}
	if outcome, warning := unfit(p); outcome != "" {
		return Result{Outcome: outcome, Warnings: []string{warning}}, nil
	}
	injected := isInjected(p)
	if found := i.config.clashes(p, injected); len(found) > 0 {
		return refused(found...), nil
	}
	if injected {
		return Result{Outcome: AlreadyInjected, Patch: toFront(p)}, nil
	}
	return i.add(p)
}

func refused(reasons ...string) Result {
	return Result{Outcome: Refused, Refusal: "cannot inject Envoy: " + strings.Join(reasons, "; ") +
		"; or label the pod " + label.EnabledKey + "=false"}
}

// Template says what the person who opted a workload in should know about its pod template: that its pods will not be
// injected, or will be refused, or may be worse off. Whether the template itself is labelled does not matter.
func (i *Injector) Template(p *Pod) ([]string, error) {
	if p.Spec == nil {
		return nil, errors.New("a pod template without a spec")
	}
	if p.Metadata == nil {
		p.Metadata = &Metadata{}
	}
	if outcome, warning := unfit(p); outcome != "" {
		return []string{warning}, nil
	}
	injected := isInjected(p)
	if found := i.config.clashes(p, injected); len(found) > 0 {
		for n, clash := range found {
			found[n] = "its pods will be refused: " + clash
		}
		return found, nil
	}
	if injected {
		return nil, nil
	}
	annotations, _, err := i.annotationsOf(p)
	if err != nil {
		return nil, err
	}
	if clash := tooLong(p.Metadata.Annotations, annotations); clash != "" {
		return []string{"its pods will be refused: " + clash}, nil
	}
	return i.doubts(p), nil
}

// optedOut says why a pod that was sent for injection is not meant to be injected.
func optedOut(p *Pod) Outcome {
	settings, _ := label.Parse(label.Pod, p.Metadata.Labels)
	switch {
	case p.isMirror():
		return MirrorPod
	case settings.Enabled != nil && !*settings.Enabled:
		return OptedOut
	}
	return ""
}

// unfit says why a pod cannot have a sidecar although it was opted in.
func unfit(p *Pod) (Outcome, string) {
	switch {
	case p.Spec.HostNetwork:
		return HostNetwork, "no Envoy is injected: the pod uses hostNetwork"
	case p.isWindows():
		return Windows, "no Envoy is injected: it needs a Linux pod, this is a Windows pod"
	}
	return "", ""
}

// isInjected reports whether the pod has our sidecar from an earlier call, with all that belongs to it. The container's
// content is not compared: by now the API server and other webhooks have added to it.
func isInjected(p *Pod) bool {
	for _, key := range []string{redirect.Annotation, label.ProxyAnnotation, BootstrapAnnotation, TokenFileAnnotation} {
		if p.Metadata.Annotations[key] == "" {
			return false
		}
	}
	return slices.ContainsFunc(p.Spec.InitContainers, func(c container) bool { return c.Name == ProxyContainer })
}

// add is the patch of a pod that has nothing of ours.
func (i *Injector) add(p *Pod) (Result, error) {
	annotations, warnings, err := i.annotationsOf(p)
	if err != nil {
		return Result{}, err
	}
	if clash := tooLong(p.Metadata.Annotations, annotations); clash != "" {
		return refused(clash), nil
	}
	containers, more, err := i.containersOf(p)
	if err != nil {
		return Result{}, err
	}
	warnings = slices.Concat(warnings, more, unread(p.Metadata.Annotations), i.doubts(p))
	ops, err := patch.Set(patch.Of("metadata", "annotations"), p.Metadata.Annotations, annotations)
	if err != nil {
		return Result{}, err
	}
	ops = append(ops, first(patch.Of("spec", "initContainers"), p.Spec.InitContainers == nil, containers)...)
	ops = append(ops, last(patch.Of("spec", "volumes"), p.Spec.Volumes == nil, i.volumes)...)
	ops = append(ops, last(patch.Of("spec", "imagePullSecrets"), p.Spec.ImagePullSecrets == nil, i.missingSecrets(p))...)
	return Result{Outcome: Injected, Patch: ops, Warnings: warnings}, nil
}

// annotationsOf are what a pod gets. The warnings are about those of its own that say what is redirected.
func (i *Injector) annotationsOf(p *Pod) (annotations map[string]string, warnings []string, err error) {
	spec, warnings := exclude(i.config.redirectSpec(), p.Metadata.Annotations)
	encoded, err := redirect.Encode(spec)
	if err != nil {
		return nil, nil, err
	}
	annotations = maps.Clone(i.annotations)
	annotations[redirect.Annotation], annotations[ServiceAnnotation] = encoded, p.Metadata.service()
	return annotations, warnings, nil
}

// doubts are what an injected pod may be worse off with.
func (i *Injector) doubts(p *Pod) []string {
	var found []string
	if p.Spec.DNSPolicy == "None" || p.Spec.DNSPolicy == "Default" {
		found = append(found, fmt.Sprintf(
			"dnsPolicy %s: Envoy may not find %s, then the pod does not start; use ClusterFirst", p.Spec.DNSPolicy, i.config.ControlHost))
	}
	if p.Spec.Resources == nil && !i.keepsGuaranteedWith(p.Metadata.Annotations) && isGuaranteed(slices.Concat(p.Spec.InitContainers, p.Spec.Containers)) {
		found = append(found, notGuaranteed)
	}
	return found
}

// first puts values at the front of an array, last at its end. The array may be missing.
func first(array patch.Path, missing bool, values []jsontext.Value) []patch.Operation {
	var ops []patch.Operation
	if missing {
		ops = append(ops, patch.Add(array, jsontext.Value("[]")))
	}
	for n, value := range values {
		ops = append(ops, patch.Add(array.Index(n), value))
	}
	return ops
}

func last(array patch.Path, missing bool, values []jsontext.Value) []patch.Operation {
	var ops []patch.Operation
	if missing && len(values) > 0 {
		ops = append(ops, patch.Add(array, jsontext.Value("[]")))
	}
	for _, value := range values {
		ops = append(ops, patch.Add(array.End(), value))
	}
	return ops
}

// toFront moves our containers back to the front of the init containers, where another webhook put its own. They are
// moved as they are.
func toFront(p *Pod) []patch.Operation {
	var names, ours []string
	for _, c := range p.Spec.InitContainers {
		names = append(names, c.Name)
	}
	for _, name := range []string{ProxyContainer, VerifyContainer} {
		if slices.Contains(names, name) {
			ours = append(ours, name)
		}
	}
	var ops []patch.Operation
	array := patch.Of("spec", "initContainers")
	for place, name := range ours {
		at := slices.Index(names, name)
		if at == place {
			continue
		}
		ops = append(ops, patch.Move(array.Index(at), array.Index(place)))
		names = slices.Insert(slices.Delete(names, at, at+1), place, name)
	}
	return ops
}
