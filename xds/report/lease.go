package report

import (
	"context"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// The times that client-go recommends.
const (
	leaseDuration = 15 * time.Second
	renewDeadline = 10 * time.Second
	retryPeriod   = 2 * time.Second
)

// elect takes part in the election until ctx ends, and leads when it is won.
func (r *Reporter) elect(ctx context.Context) error {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Name: Controller,
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: r.config.Namespace, Name: Controller},
			Client:     r.config.Client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: r.config.Identity},
		},
		LeaseDuration:   leaseDuration,
		RenewDeadline:   renewDeadline,
		RetryPeriod:     retryPeriod,
		ReleaseOnCancel: true,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: r.lead,
			OnStoppedLeading: func() { r.setLeading(false) },
		},
	})
	if err != nil {
		return fmt.Errorf("lease %s/%s: %w", r.config.Namespace, Controller, err)
	}
	for ctx.Err() == nil {
		elector.Run(ctx) // returns when the Lease is lost
	}
	return nil
}
