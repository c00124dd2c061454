package inject

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
)

// AnnotationPrefix begins the annotations of ours, those of other sidecars of that kind not.
const AnnotationPrefix = "traffic.envoy."

// userAnnotations are for users to write, on pods and pod templates.
var userAnnotations = []string{
	ExcludeCIDRsAnnotation, ExcludePortsAnnotation, RequestsAnnotation, LimitsAnnotation, LogLevelAnnotation,
}

var readAnnotations = append([]string{
	TemplateLabelAnnotation, redirect.Annotation, label.ProxyAnnotation, BootstrapAnnotation, TokenFileAnnotation, ServiceAnnotation,
}, userAnnotations...)

// Annotations says what a pod's annotations do not do: values that are not valid, and names that nobody reads.
func (i *Injector) Annotations(annotations map[string]string) []string {
	_, warnings := exclude(i.config.redirectSpec(), annotations)
	_, more := i.config.customized(annotations)
	return slices.Concat(warnings, more, unread(annotations))
}

// unread lists annotations that look like ours and are none: a misspelt exclusion would exclude nothing.
func unread(annotations map[string]string) []string {
	var warnings []string
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if strings.HasPrefix(key, AnnotationPrefix) && !slices.Contains(readAnnotations, key) {
			last := len(userAnnotations) - 1
			warnings = append(warnings, fmt.Sprintf("annotation %s: no such annotation, only %s and %s; ignored",
				key, strings.Join(userAnnotations[:last], ", "), userAnnotations[last]))
		}
	}
	return warnings
}
