package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A config is what the flags say.
type config struct {
	namespace      string
	mesh           mesh.Config
	envoy          envoy.Config
	gateway        gatewayConfig
	tlsDir         string
	listen, status string
	logLevel       slog.Level
	memory         int64
	kubeconfig     string
}

func parseFlags(args []string, output io.Writer) (config, error) {
	c := config{envoy: envoy.Config{AccessLog: envoy.LogAll, Collector: envoy.Collector{Kind: envoy.Zipkin}}}
	flags := flag.NewFlagSet("traffic-control", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&c.namespace, "namespace", "", "namespace of the release, where the Lease is (required)")
	flags.Var(&c.envoy.AccessLog, "access-log", "what proxies log of open ports: all, errors or off")
	flags.BoolVar(&c.mesh.KubernetesAPI, "open-kubernetes-api", true, "open the Kubernetes API where no label says otherwise")
	flags.Func("never-injected", "namespaces whose pods the webhook never gets, separated by commas", func(text string) error {
		c.mesh.NeverInjected = strings.Split(text, ",")
		return nil
	})
	copies := flags.Bool("copy-workload-label", true, "whether the webhook copies "+label.EnabledKey+" from workloads to their pod templates")
	flags.Var(&c.envoy.Collector.Kind, "tracing-kind", "what collects the spans of traced requests: zipkin or otlp (OpenTelemetry over gRPC)")
	flags.Var(&c.envoy.Collector.Address, "tracing-address", "host:port of the collector; empty for none")
	flags.StringVar(&c.envoy.ClusterDomain, "cluster-domain", envoy.DefaultClusterDomain, "what the names of Services end in")
	c.gateway.addFlags(flags)
	flags.StringVar(&c.tlsDir, "tls-dir", "/etc/traffic/tls", "folder with tls.crt and tls.key, reloaded when they change")
	flags.StringVar(&c.listen, "listen", ":18000", "address for Envoys")
	flags.StringVar(&c.status, "status-listen", ":8080", "address for /healthz, /readyz and /metrics")
	flags.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.Int64Var(&c.memory, "memory-limit", 0, "bytes that the container may use, within which it tries to stay; 0 for no limit")
	flags.StringVar(&c.kubeconfig, "kubeconfig", "", "for a run outside a cluster; default $KUBECONFIG, else the pod's ServiceAccount")
	if err := flags.Parse(args); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if c.namespace == "" {
		return c, errors.New("--namespace must not be empty")
	}
	if wrong := validation.IsDNS1123Subdomain(c.envoy.ClusterDomain); wrong != nil {
		return c, fmt.Errorf("--cluster-domain=%q is no domain: %s", c.envoy.ClusterDomain, wrong[0])
	}
	if err := c.gateway.check(); err != nil {
		return c, err
	}
	c.mesh.TemplatesOnly = !*copies
	c.mesh.Collector = c.envoy.Collector.Address != envoy.CollectorAddress{}
	return c, nil
}
