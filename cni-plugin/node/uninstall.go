package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
)

// askTimeout bounds one question to the API server when the agent stops.
const askTimeout = 10 * time.Second

// leave decides at SIGTERM whether the product goes from this node or only this
// process, and cleans up in the first case.
func (a *Agent) leave(ctx context.Context) error {
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	ds, err := a.getDaemonSet(ask)
	uninstall, why := uninstalled(ds, err, a.sawDaemonSet.Load())
	if !uninstall {
		a.log.Info("stops; new pods stay redirected", "because", why)
		return nil
	}
	a.log.Info("uninstalls from this node", "because", why)
	return a.uninstall(ctx)
}

// awaitDaemonSet asks until it has seen our DaemonSet, for the day on which we
// may not see it any more.
func (a *Agent) awaitDaemonSet(ctx context.Context) {
	_ = wait.PollUntilContextCancel(ctx, time.Minute, true, func(ctx context.Context) (bool, error) {
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		defer cancel()
		_, err := a.getDaemonSet(ctx)
		if err != nil && ctx.Err() != context.Canceled {
			a.log.Warn("cannot see the DaemonSet that runs this agent; an uninstall may go unnoticed", "daemonset", a.config.DaemonSet.String(), "error", err)
		}
		a.sawDaemonSet.Store(err == nil)
		return err == nil, nil
	})
}

func (a *Agent) getDaemonSet(ctx context.Context) (*appsv1.DaemonSet, error) {
	return a.client.AppsV1().DaemonSets(a.config.DaemonSet.Namespace).Get(ctx, a.config.DaemonSet.Name, metav1.GetOptions{})
}

// uninstalled reads the answer to "what about the DaemonSet that runs me?".
//
// A wrong yes costs little: until the next agent has put the entry back, a new
// injected pod waits in traffic-verify, or, where that is switched off, starts
// without its redirect and is repaired. A wrong no leaves an entry and a binary
// behind that work without anybody and do nothing for pods that are not
// annotated. So neither keeps a pod from starting, and what is most likely
// decides: helm and kubectl delete the DaemonSet, its Role and its
// ServiceAccount in one go, and a pod that is told to stop after that is refused
// an answer that it got before. No answer at all is an outage of the API server.
func uninstalled(ds *appsv1.DaemonSet, err error, sawBefore bool) (bool, string) {
	switch {
	case err == nil && ds.DeletionTimestamp != nil:
		return true, "the DaemonSet is being deleted"
	case err == nil:
		return false, "the DaemonSet is still there"
	case apierrors.IsNotFound(err):
		return true, "the DaemonSet is gone"
	case sawBefore && (apierrors.IsForbidden(err) || apierrors.IsUnauthorized(err)):
		return true, fmt.Sprintf("the rights to see the DaemonSet are gone: %v", err)
	default:
		return false, fmt.Sprintf("the DaemonSet cannot be seen: %v", err)
	}
}

// uninstall removes the entry, gives the runtime time to take notice, and
// removes the binary last: at no time does a configuration name what is missing.
// Rules of running pods stay, and so do their sidecars.
func (a *Agent) uninstall(ctx context.Context) error {
	if _, _, err := a.installer.carryOut(func() ([]change, error) { return planUninstall(a.config.ConfDir) }); err != nil {
		return fmt.Errorf("uninstall: the plugin stays, since a CNI configuration may still name it: %w", err)
	}
	if runtime := runtimeOf(a.nodePods()); !reloads(runtime) {
		a.log.Info("leaves the plugin binary behind: only containerd is known to stop pods without the configuration that they were started with",
			"runtime", runtime, "path", a.installer.binary())
		return nil
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(a.config.UninstallWait):
	}
	if err := os.Remove(a.installer.binary()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("uninstall: %w", err)
	}
	a.log.Info("removed the CNI plugin", "path", a.installer.binary())
	return nil
}

// reloads reports whether a runtime tears pods down with its present
// configuration. containerd does, and reloads when a file changes; CRI-O keeps
// the one that the pod was set up with, in which our plugin is named.
func reloads(runtime string) bool {
	return runtime == "containerd"
}
