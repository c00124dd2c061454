package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Pod annotations that say what the pod's own sidecar is given, in place of what all sidecars are.
const (
	// RequestsAnnotation and LimitsAnnotation are amounts, separated by commas: "cpu=500m,memory=256Mi". A resource that
	// is not named keeps the amount that all sidecars have.
	RequestsAnnotation = "traffic.envoy.requests"
	LimitsAnnotation   = "traffic.envoy.limits"
	// LogLevelAnnotation is the level of Envoy's own log, as Envoy spells it.
	LogLevelAnnotation = "traffic.envoy.log-level"
)

// customizable are the resources that a pod may set. Others, such as huge pages, come with rules of their own.
var customizable = []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory, corev1.ResourceEphemeralStorage}

// customizes reports whether annotations say anything about the pod's own sidecar.
func customizes(annotations map[string]string) bool {
	return annotations[RequestsAnnotation] != "" || annotations[LimitsAnnotation] != "" || annotations[LogLevelAnnotation] != ""
}

// customized is the configuration of a pod with these annotations. What is not valid is left out with a warning.
func (c Config) customized(annotations map[string]string) (Config, []string) {
	if !customizes(annotations) {
		return c, nil
	}
	var warnings []string
	ignore := func(key string, errs ...error) {
		for _, err := range errs {
			warnings = append(warnings, fmt.Sprintf("annotation %s: %v; ignored", key, err))
		}
	}
	requests, errs := ParseList(annotations[RequestsAnnotation], parseAmount)
	ignore(RequestsAnnotation, errs...)
	limits, errs := ParseList(annotations[LimitsAnnotation], parseAmount)
	ignore(LimitsAnnotation, errs...)
	given := c.ProxyResources
	c.ProxyResources = corev1.ResourceRequirements{Requests: overlay(given.Requests, requests), Limits: overlay(given.Limits, limits)}
	for _, name := range customizable {
		request, limit := c.ProxyResources.Requests[name], c.ProxyResources.Limits[name]
		if limit.IsZero() || request.Cmp(limit) <= 0 {
			continue
		}
		// The API server would refuse the pod.
		key := LimitsAnnotation
		if slices.ContainsFunc(requests, func(a amount) bool { return a.name == name }) {
			key = RequestsAnnotation
		}
		ignore(key, fmt.Errorf("%s: the request %s is more than the limit %s: raise %s, or lower %s",
			name, request.String(), limit.String(), LimitsAnnotation, RequestsAnnotation))
		reset(c.ProxyResources.Requests, given.Requests, name)
		reset(c.ProxyResources.Limits, given.Limits, name)
	}
	if level := annotations[LogLevelAnnotation]; logLevels[level] {
		c.LogLevel = level
	} else if level != "" {
		ignore(LogLevelAnnotation, fmt.Errorf("%q: expected trace, debug, info, warning, error, critical or off", level))
	}
	return c, warnings
}

// containersOf are the containers that a pod gets. The warnings are about those of its annotations that say what is in them.
func (i *Injector) containersOf(p *Pod) (containers []jsontext.Value, warnings []string, err error) {
	asWhole := p.Spec.Resources != nil
	if !customizes(p.Metadata.Annotations) {
		if asWhole {
			return i.lean, nil, nil
		}
		return i.containers, nil, nil
	}
	config, warnings := i.config.customized(p.Metadata.Annotations)
	if asWhole {
		config = config.withoutResources()
		warnings = append(warnings, asWholeIgnores(p.Metadata.Annotations)...)
	}
	containers, err = config.initContainers()
	return containers, warnings, err
}

func asWholeIgnores(annotations map[string]string) []string {
	var warnings []string
	for _, key := range []string{RequestsAnnotation, LimitsAnnotation} {
		if annotations[key] != "" {
			warnings = append(warnings, fmt.Sprintf("annotation %s: the pod has resources as a whole, of which its Envoy takes its part; ignored", key))
		}
	}
	return warnings
}

// keepsGuaranteedWith reports whether a pod of QoS class Guaranteed that has these annotations stays in it.
func (i *Injector) keepsGuaranteedWith(annotations map[string]string) bool {
	if !customizes(annotations) {
		return i.keepsGuaranteed
	}
	config, _ := i.config.customized(annotations)
	return config.keepsGuaranteed()
}

// An amount is so much of a resource.
type amount struct {
	name     corev1.ResourceName
	quantity resource.Quantity
}

// parseAmount reads "cpu=500m".
func parseAmount(text string) (amount, error) {
	name, value, _ := strings.Cut(text, "=")
	a := amount{name: corev1.ResourceName(strings.TrimSpace(name))}
	if !slices.Contains(customizable, a.name) {
		return a, fmt.Errorf("%q: expected an amount of cpu, memory or ephemeral-storage, such as memory=256Mi", text)
	}
	var err error
	if a.quantity, err = resource.ParseQuantity(strings.TrimSpace(value)); err != nil || a.quantity.Sign() <= 0 {
		return a, fmt.Errorf("%q: expected a quantity above 0, such as 500m of cpu or 256Mi of memory", text)
	}
	if a.name != corev1.ResourceCPU && a.quantity.Cmp(*resource.NewQuantity(1<<20, resource.BinarySI)) < 0 {
		return a, errors.New(`"` + text + `": less than 1Mi; m is a thousandth of a byte, Mi a mebibyte`)
	}
	return a, nil
}

// overlay is given with some amounts in place of its own.
func overlay(given corev1.ResourceList, amounts []amount) corev1.ResourceList {
	if len(amounts) == 0 {
		return maps.Clone(given)
	}
	all := corev1.ResourceList{}
	maps.Copy(all, given)
	for _, a := range amounts {
		all[a.name] = a.quantity
	}
	return all
}

// reset gives a resource the amount back that it had.
func reset(list, given corev1.ResourceList, name corev1.ResourceName) {
	delete(list, name)
	if quantity, had := given[name]; had {
		list[name] = quantity
	}
}
