package main

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/report"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

// TestRejectionBecomesAnEvent: what a proxy refuses is told to the owner of the Service, not only to the log; but in our
// words, because any pod can refuse anything and say what it likes.
func TestRejectionBecomesAnEvent(t *testing.T) {
	client := fake.NewClientset()
	events := make(chan *eventsv1.Event, 10)
	client.PrependReactor("create", "events", func(a clienttesting.Action) (bool, runtime.Object, error) {
		events <- a.(clienttesting.CreateAction).GetObject().(*eventsv1.Event)
		return false, nil, nil
	})
	log := slog.New(slog.DiscardHandler)
	reporter := report.New(report.Config{
		Client: client, Namespace: "traffic-system", Identity: "one", Logger: log,
		Reference: func(o mesh.Object) *corev1.ObjectReference {
			return &corev1.ObjectReference{Kind: o.Kind, Name: o.Name, UID: "1"}
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- reporter.Run(ctx) }()

	served, err := serveConfig(config{}, client, nil, reporter, prometheus.NewRegistry(), log)
	if err != nil {
		t.Fatal(err)
	}
	served.OnReject(serve.Rejection{
		Proxy: serve.Identity{NodeID: "web-1.dev", Pod: "web-1", Namespace: "dev"}, Version: "abc", Message: "call 555 for help",
		Key:   envoy.Key{Type: "type.googleapis.com/envoy.config.listener.v3.Listener", Name: "10.96.0.1:80"},
		Owner: mesh.Object{Kind: "Service", Namespace: "shop", Name: "db"},
	})
	select {
	case e := <-events:
		if e.Namespace != "shop" || e.Regarding.Name != "db" || !strings.Contains(e.Note, "Envoy of Pod dev/web-1 refused version abc of Listener 10.96.0.1:80") ||
			strings.Contains(e.Note, "555") {
			t.Errorf("event %+v", e)
		}
	case <-time.After(10 * time.Second):
		t.Error("no event")
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
