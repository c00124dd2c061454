package node

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/containernetworking/plugins/pkg/ns"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// Reasons of the events that a pod gets.
const (
	reasonRepaired = "RedirectRepaired"
	reasonFailed   = "RedirectFailed"
	reasonInvalid  = "RedirectInvalid"
)

// inFunc is apply.Host's In.
type inFunc func(netnsPath, backend string, do func(apply.Backend, ns.NetNS) error) error

// repairer compares pods with their redirect specs and mends what differs.
type repairer struct {
	in inFunc
	// removeOthers is apply.Host's RemoveOthers.
	removeOthers func(apply.Backend, ns.NetNS) error

	cacheDir string
	netnsDir string
	reporter
	connect connectProbe
	metrics *metrics
	log     *slog.Logger

	known known
}

// known is what one pass leaves to the next, so that what is gone is forgotten.
type known struct {
	// done is what needs no second look: by container id, the spec that the
	// sandbox was found to have.
	done map[string]string
	// invalid is what needs no second report: by pod, a spec that cannot be read.
	invalid map[types.UID]string
}

// pass looks at the pods that it has not found in order before, or at all of
// them. It returns the errors of pods that a later pass may mend.
func (r *repairer) pass(pods []*corev1.Pod, backend string, all bool) error {
	byPod, err := sandboxes(r.cacheDir)
	if err != nil {
		return err
	}
	before := r.known
	r.known = known{done: map[string]string{}, invalid: map[types.UID]string{}}
	if all {
		before.done, r.connect.due = nil, true
	}
	var errs []error
	injected, unseen := 0, 0
	for _, pod := range pods {
		value, ok := pod.Annotations[redirect.Annotation]
		if !ok || isOver(pod) {
			continue
		}
		injected++
		found, err := r.pod(pod, value, backend, byPod[types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name}], before)
		errs = append(errs, err)
		if !found && pod.Status.PodIP != "" {
			unseen++
			r.log.Debug("network namespace of an injected pod not found", "namespace", pod.Namespace, "pod", pod.Name)
		}
	}
	r.connect.conclude()
	r.metrics.injected.Set(float64(injected))
	r.metrics.unseen.Set(float64(unseen))
	return errors.Join(errs...)
}

func isOver(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// pod brings every sandbox of one pod in order and says whether it found one.
func (r *repairer) pod(pod *corev1.Pod, value, backend string, candidates []sandbox, before known) (found bool, err error) {
	spec, err := redirect.Decode(value)
	if err != nil {
		r.invalid(pod, value, err, before)
		return true, nil
	}
	var errs []error
	for _, s := range candidates {
		if s.uid != "" && s.uid != pod.UID {
			continue // of an earlier pod of that name
		}
		if before.done[s.containerID] != value {
			err := r.sandbox(pod, s, spec, backend)
			if errors.Is(err, apply.ErrGone) {
				continue
			}
			if err != nil {
				errs = append(errs, err)
				continue
			}
		}
		found = true
		r.known.done[s.containerID] = value
	}
	return found || len(errs) > 0, errors.Join(errs...)
}

// invalid reports a spec that cannot be read, once: such a pod can only run if
// it was never redirected, or was annotated by hand since.
func (r *repairer) invalid(pod *corev1.Pod, value string, err error, before known) {
	r.known.invalid[pod.UID] = value
	if before.invalid[pod.UID] == value {
		return
	}
	r.log.Warn("annotation of a pod is not a redirect spec", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
	r.event(pod, corev1.EventTypeWarning, reasonInvalid, "Verify", fmt.Sprintf("annotation %s: %v", redirect.Annotation, err))
}

// sandbox compares the rules in one network namespace and writes them if they
// differ.
func (r *repairer) sandbox(pod *corev1.Pod, s sandbox, spec redirect.Spec, backend string) error {
	path, err := s.path(r.netnsDir)
	if err != nil {
		return err
	}
	log := r.log.With("namespace", pod.Namespace, "pod", pod.Name, "sandbox", s.containerID)
	var difference error
	err = r.in(path, backend, func(b apply.Backend, netns ns.NetNS) error {
		err := b.Check(netns, spec)
		if !errors.Is(err, apply.ErrDiffers) {
			r.connect.look(netns)
			return err
		}
		difference = err
		if err := b.Apply(netns, spec); err != nil {
			return err
		}
		if err := r.removeOthers(b, netns); err != nil {
			log.Warn("rules of another back end may be left in a pod", "backend", backend, "error", err)
		}
		return nil
	})
	switch {
	case errors.Is(err, apply.ErrGone):
		log.Debug("sandbox is gone", "error", err)
		return err
	case err != nil:
		r.metrics.repairs.WithLabelValues("failed").Inc()
		r.event(pod, corev1.EventTypeWarning, reasonFailed, "Repair", fmt.Sprintf("outbound connections do not go to Envoy as annotated, and the repair failed: %v", err))
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	case difference != nil:
		r.metrics.repairs.WithLabelValues("repaired").Inc()
		log.Info("repaired the redirect of a pod", "backend", backend, "was", difference)
		r.event(pod, corev1.EventTypeNormal, reasonRepaired, "Repair", fmt.Sprintf("outbound connections did not go to Envoy as annotated (%v); they do now", difference))
	}
	return nil
}
