// Package admit answers the API server: what to change in a pod or workload that is being written, and what to tell the
// person who writes it. It asks nobody else: everything comes with the request.
package admit

import (
	"log/slog"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// A Config is what the three paths need.
type Config struct {
	// Injector returns the one that is in force, which changes with the CA.
	Injector func() *inject.Injector
	// CopyWorkloadLabel lets labels of workloads act on their pod templates.
	CopyWorkloadLabel bool
	// Collector says that there is one for what labels trace.
	Collector bool
	// NeverInjected are the namespaces whose pods are never sent here.
	NeverInjected []string
	Log           *slog.Logger
	Metrics       prometheus.Registerer
}

// New returns the handler of InjectPath, WorkloadPath and WarnPath.
func New(c Config) http.Handler {
	m := newMetrics(c.Metrics)
	pods := pods{injector: c.Injector, log: c.Log}
	workloads := workloads{injector: c.Injector, copies: c.CopyWorkloadLabel, log: c.Log}
	warnings := warnings{injector: c.Injector, collector: c.Collector, neverInjected: c.NeverInjected}
	mux := http.NewServeMux()
	mux.Handle("POST "+InjectPath, reviewed(pods.answer, m.on(InjectPath), c.Log))
	mux.Handle("POST "+WorkloadPath, reviewed(workloads.answer, m.on(WorkloadPath), c.Log))
	mux.Handle("POST "+WarnPath, reviewed(warnings.answer, m.on(WarnPath), c.Log))
	return mux
}
