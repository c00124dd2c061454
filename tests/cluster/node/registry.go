package node

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"golang.org/x/sync/errgroup"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/plan"
)

// ServeRegistry serves the image registry until ctx ends: on the node's own
// localhost, and on the listener that the machine handed in. Layers are kept
// in a directory that all clusters share, tags in the cluster's own.
func ServeRegistry(ctx context.Context, p *plan.Plan) error {
	listeners, err := registryListeners()
	if err != nil {
		return err
	}
	for _, dir := range []string{p.Shared("registry"), p.Dir("tags")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("create the registry's directory: %w", err)
		}
	}
	handler, err := remember(p.Dir("tags"), registry.New(
		registry.WithBlobHandler(registry.NewDiskBlobHandler(p.Shared("registry"))),
		registry.Logger(log.New(os.Stdout, "", log.LstdFlags)),
	))
	if err != nil {
		return err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	var group errgroup.Group
	for _, l := range listeners {
		group.Go(func() error { return server.Serve(l) })
	}
	if err := group.Wait(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the registry: %w", err)
	}
	return nil
}

// registryListeners opens the registry's port in the node and takes over the
// machine's.
func registryListeners() ([]net.Listener, error) {
	machine := os.NewFile(cableFD, "registry")
	outside, err := net.FileListener(machine)
	if err := errors.Join(err, machine.Close()); err != nil {
		return nil, fmt.Errorf("use the machine's listener: %w", err)
	}
	listeners := []net.Listener{outside}
	for _, host := range []string{"127.0.0.1", "::1"} {
		l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(plan.RegistryPort)))
		if err != nil {
			return nil, fmt.Errorf("open the registry's port: %w", err)
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}
