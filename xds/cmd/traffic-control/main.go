// Command traffic-control is the control plane: it reads labels from the Kubernetes API and tells every Envoy where its
// requests go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/report"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
	"github.com/kubernetes-traffic-manager/traffic/xds/watch"
)

// A thousand proxies that reconnect are as many token reviews: client-go's own limit of 5 a second would keep them
// waiting for minutes.
const apiQPS, apiBurst = 500, 1000

func main() {
	collectAt(gcPercentAtStart)
	os.Exit(run(os.Args[1:], os.Stderr))
}

// run returns 0 after a clean stop, 1 after a failure, 2 when it was called wrongly.
func run(args []string, output io.Writer) int {
	c, err := parseFlags(args, output)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(output, "traffic-control:", err)
		return 2
	}
	log := slog.New(slog.NewJSONHandler(output, &slog.HandlerOptions{Level: c.logLevel}))
	slog.SetDefault(log)
	klog.SetSlogLogger(log)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := control(ctx, c, log); err != nil {
		log.Error("failed", "error", err)
		return 1
	}
	return 0
}

// control makes the parts, in the order in which a label passes them, and runs them until ctx ends.
func control(ctx context.Context, c config, log *slog.Logger) error {
	limitMemory(c.memory)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	client, meta, err := kubernetesAPI(c.kubeconfig)
	if err != nil {
		return err
	}
	source, err := watch.NewSource(client, meta)
	if err != nil {
		return err
	}
	translator, err := envoy.NewTranslator(c.envoy)
	if err != nil {
		return err
	}
	replica, err := os.Hostname()
	if err != nil {
		return err
	}
	statuses := report.NewStatuses(client, c.gateway.model.Controller, source.Ingress, log)
	reporter := report.New(report.Config{
		Client: client, Namespace: c.namespace, Identity: replica, Reference: source.Reference, Logger: log,
		OnLeading: statuses.SetLeading,
	})
	served, err := serveConfig(c, client, source, reporter, registry, log)
	if err != nil {
		return err
	}
	server, err := serve.New(served)
	if err != nil {
		return err
	}
	ingresses, err := gateway(c, source, client, statuses, translator, server)
	if err != nil {
		return err
	}
	watcher, err := watch.New(watch.Config{
		Source: source, Mesh: c.mesh, Translator: translator, Publisher: newPublisher(server), Gateway: ingresses,
		Reporter: reporter, Logger: log, Registerer: registry,
	})
	if err != nil {
		return err
	}

	xds, status, err := listen(ctx, c)
	if err != nil {
		return err
	}
	log.Info("starts", "envoys", xds.Addr().String(), "status", status.Addr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { watcher.Run(ctx); return nil })
	group.Go(func() error { return reporter.Run(ctx) })
	group.Go(func() error { return statuses.Run(ctx) })
	group.Go(func() error { return server.Serve(ctx, xds) })
	group.Go(func() error { return serveStatus(ctx, status, registry, readiness(watcher.Ready, server.Check)) })
	return group.Wait()
}

// kubernetesAPI returns clients of the API, of whole objects and of their metadata.
func kubernetesAPI(kubeconfig string) (kubernetes.Interface, metadata.Interface, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{}).ClientConfig()
	if err != nil {
		return nil, nil, fmt.Errorf("no way to the Kubernetes API: %w", err)
	}
	config.QPS, config.Burst, config.UserAgent = apiQPS, apiBurst, report.Controller
	meta, err := metadata.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("no way to the Kubernetes API: %w", err)
	}
	binary := rest.CopyConfig(config)
	binary.ContentType, binary.AcceptContentTypes = "application/vnd.kubernetes.protobuf", "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(binary)
	if err != nil {
		return nil, nil, fmt.Errorf("no way to the Kubernetes API: %w", err)
	}
	return client, meta, nil
}

// serveConfig connects the server with whom it asks about tokens, and with whom it tells of what proxies refuse.
func serveConfig(c config, client kubernetes.Interface, source *watch.Source, reporter *report.Reporter, registry *prometheus.Registry, log *slog.Logger) (serve.Config, error) {
	reviewer, err := serve.NewTokenReviewer(client.AuthenticationV1().TokenReviews(), registry)
	if err != nil {
		return serve.Config{}, err
	}
	return serve.Config{
		Linger:         serve.Linger,
		Authenticator:  reviewer,
		GatewayAccount: c.gateway.qualified(c.namespace),
		CertFile:       filepath.Join(c.tlsDir, "tls.crt"),
		KeyFile:        filepath.Join(c.tlsDir, "tls.key"),
		Registerer:     registry,
		Logger:         log,
		OnReject: func(r serve.Rejection) {
			source.Refused(r.Key, r.Version, r.Owner)
			reporter.Reject(rejection(r))
		},
	}, nil
}

// rejection is what a server knows of it, in the words of a Reporter. The proxy's own stay in the server's log.
func rejection(r serve.Rejection) report.Rejection {
	kind := r.Key.Type[strings.LastIndexByte(r.Key.Type, '.')+1:]
	return report.Rejection{
		Owner: r.Owner, Resource: kind + " " + r.Key.Name, Version: r.Version,
		Proxy: mesh.Object{Kind: "Pod", Namespace: r.Proxy.Namespace, Name: r.Proxy.Pod},
	}
}

// A publisher is a server as a Watcher sees it: neither package knows the other.
type publisher struct {
	server *serve.Server
	// settle is called when the proxies that waited for the start of this process have what they waited for.
	settle func()
}

func newPublisher(server *serve.Server) publisher {
	return publisher{server, sync.OnceFunc(func() { go saveMemory() })}
}

func (p publisher) Publish(update envoy.Update, applied func(watch.Applied)) {
	p.server.Publish(update, func(a serve.Applied) {
		applied(watch.Applied(a))
		p.settle()
	})
}

func listen(ctx context.Context, c config) (xds, status net.Listener, err error) {
	var config net.ListenConfig
	if xds, err = config.Listen(ctx, "tcp", c.listen); err != nil {
		return nil, nil, fmt.Errorf("listen for Envoys: %w", err)
	}
	if status, err = config.Listen(ctx, "tcp", c.status); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("listen for status: %w", err), xds.Close())
	}
	return xds, status, nil
}
