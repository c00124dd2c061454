// Command traffic-webhook injects Envoy into pods that opted in, and warns about labels that do not do what they say.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"

	"github.com/kubernetes-traffic-manager/traffic/webhook/admit"
)

// reloadEvery is how often the mounted Secret is looked at; certificates are renewed long before they end.
const reloadEvery = 10 * time.Second

func main() {
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run returns 0 after a clean stop, 1 after a failure, 2 when it was called wrongly.
func run(args []string, output io.Writer) int {
	c, err := parseFlags(args, output)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(output, "traffic-webhook:", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(output, &slog.HandlerOptions{Level: c.logLevel}))
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := serve(ctx, c, log); err != nil {
		log.Error("failed", "error", err)
		return 1
	}
	return 0
}

// serve makes the parts and runs them until ctx ends.
func serve(ctx context.Context, c config, log *slog.Logger) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	secret, err := admit.LoadSecret(c.files, c.sidecar, log)
	if err != nil {
		return err
	}
	registry.MustRegister(secret.Expiration())
	server := admit.NewServer(admit.New(admit.Config{
		Injector: secret.Injector, CopyWorkloadLabel: c.copyWorkloadLabel, Log: log, Metrics: registry,
		Collector: c.tracingAddress != "", NeverInjected: c.neverInjected,
	}), secret.GetCertificate, log)
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.listen)
	if err != nil {
		return fmt.Errorf("listen for reviews: %w", err)
	}
	status, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.status)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for status: %w", err), listener.Close())
	}
	log.Info("serves", "reviews", listener.Addr().String(), "status", status.Addr().String())

	group, running := errgroup.WithContext(ctx)
	done, stop := context.WithCancel(context.WithoutCancel(ctx)) // the status is served until the last review is
	group.Go(func() error {
		defer stop()
		return server.Serve(running, listener, c.drainDelay)
	})
	group.Go(func() error { return serveStatus(done, status, registry, server, secret) })
	group.Go(func() error {
		secret.Watch(done, reloadEvery)
		return nil
	})
	return group.Wait()
}

// A checker reports why it could not do its work at a time.
type checker interface{ Check(now time.Time) error }

func serveStatus(ctx context.Context, l net.Listener, registry *prometheus.Registry, checks ...checker) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		for _, c := range checks {
			if err := c.Check(time.Now()); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		fmt.Fprintln(w, "ok")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve status: %w", err)
	}
	return nil
}
