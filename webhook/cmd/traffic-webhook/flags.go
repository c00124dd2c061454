package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/webhook/admit"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// A config is what the flags say.
type config struct {
	sidecar           inject.Config
	copyWorkloadLabel bool
	tracingAddress    string
	neverInjected     []string
	files             admit.Files
	listen, status    string
	drainDelay        time.Duration
	logLevel          slog.Level
}

// parseFlags reads the command line. Values of the sidecar are validated where it is made, with the CA.
func parseFlags(args []string, output io.Writer) (config, error) {
	flags, finish := newFlags(output)
	if err := flags.Parse(args); err != nil {
		return config{}, err
	}
	if flags.NArg() > 0 {
		return config{}, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	return finish()
}

// newFlags declares the flags; what it returns with them makes the config of what they were set to.
func newFlags(output io.Writer) (*flag.FlagSet, func() (config, error)) {
	var c config
	flags := flag.NewFlagSet("traffic-webhook", flag.ContinueOnError)
	flags.SetOutput(output)
	namespace := flags.String("namespace", "", "namespace of the release, where the control plane is (required)")
	sidecarFlags(flags, &c.sidecar)
	flags.BoolVar(&c.copyWorkloadLabel, "copy-workload-label", true, "let a workload's label act on its pod template; otherwise warn")
	flags.StringVar(&c.tracingAddress, "tracing-address", "", "collector of the spans of traced requests; without one, labels that trace are warned about")
	flags.Func("never-injected", "namespaces whose pods are never sent here, separated by commas: who opts in there is warned", func(text string) error {
		c.neverInjected = strings.Split(text, ",")
		return nil
	})
	tlsDir := flags.String("tls-dir", "/etc/traffic/tls", "folder with tls.crt, tls.key and ca.crt, reloaded when they change")
	extraCA := flags.String("extra-ca-file", "", "one more CA for the sidecars, while the CA's key is being replaced")
	flags.StringVar(&c.listen, "listen", ":8443", "address for HTTPS")
	flags.StringVar(&c.status, "status-listen", ":8080", "address for /healthz, /readyz and /metrics")
	flags.DurationVar(&c.drainDelay, "drain-delay", 5*time.Second, "how long to answer after SIGTERM, while not ready")
	flags.TextVar(&c.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	return flags, func() (config, error) {
		if *namespace == "" {
			return c, errors.New("--namespace must not be empty")
		}
		c.sidecar.ControlHost = "traffic-control." + *namespace + ".svc"
		file := func(name string) string { return filepath.Join(*tlsDir, name) }
		c.files = admit.Files{Certificate: file("tls.crt"), Key: file("tls.key"), CA: []string{file("ca.crt")}}
		if *extraCA != "" {
			c.files.CA = append(c.files.CA, *extraCA)
		}
		return c, nil
	}
}

func sidecarFlags(flags *flag.FlagSet, c *inject.Config) {
	flags.StringVar(&c.ProxyImage, "proxy-image", "", "stock Envoy image, 1.40 or newer (required)")
	flags.StringVar(&c.VerifyImage, "verify-image", "", "image with traffic-verify (required with --verify)")
	flags.BoolVar(&c.Verify, "verify", true, "add the init container that waits until the pod's connections reach its own Envoy")
	flags.Var(oneOf(&c.ImagePullPolicy, corev1.PullIfNotPresent, corev1.PullAlways, corev1.PullNever), "image-pull-policy", "of both images")
	flags.Var(listOf(&c.PullSecrets, func(name string) (string, error) { return name, nil }, func(name string) string { return name }),
		"pull-secrets", "Secrets of their own namespaces that injected pods pull images with, besides their own")
	flags.Var(number(&c.ControlPort, 18000), "control-port", "port of the control plane")
	flags.Var(number(&c.ProxyPort, 10000), "proxy-port", "port that receives redirected connections")
	flags.Var(number(&c.StatsPort, 8900), "proxy-stats-port", "port of /ready and /stats/prometheus on the pod's address")
	flags.Var(number(&c.ProxyUID, 1337), "proxy-uid", "user and group of Envoy, whose connections are not redirected")
	flags.IntVar(&c.Concurrency, "proxy-concurrency", 2, "Envoy's worker threads")
	flags.StringVar(&c.LogLevel, "proxy-log-level", "warning", "level of Envoy's own log")
	flags.BoolVar(&c.IPv6, "proxy-ipv6", true, "false for nodes whose kernel has no IPv6 at all")
	flags.Var(quantities(&c.ProxyResources.Requests, "cpu=20m,memory=128Mi"), "proxy-requests", "resources that the sidecar requests")
	flags.Var(quantities(&c.ProxyResources.Limits, "cpu=2,memory=1Gi"), "proxy-limits", "resources to which the sidecar is limited")
	flags.Var(quantities(&c.VerifyResources.Requests, "cpu=10m,memory=16Mi"), "verify-requests", "resources that traffic-verify requests")
	flags.Var(quantities(&c.VerifyResources.Limits, "cpu=100m,memory=64Mi"), "verify-limits", "resources to which traffic-verify is limited")
	flags.Var(oneOf(&c.OutboundPolicy, inject.Block, inject.Passthrough), "outbound-default-policy", "what happens to connections that no label opens")
	flags.Var(listOf(&c.ExcludeCIDRs, inject.ParseCIDR, netip.Prefix.String), "exclude-cidrs", "destinations that are never redirected")
	flags.Var(listOf(&c.ExcludePorts, inject.ParsePorts, redirect.PortRange.String), "exclude-ports", "ports and ranges that are never redirected")
}

// A value is a flag.Value made of two functions.
type value struct {
	set func(string) error
	get func() string
}

func (v value) Set(text string) error { return v.set(text) }

func (v value) String() string {
	if v.get == nil { // package flag asks a zero value what its default is
		return ""
	}
	return v.get()
}

// oneOf is one of the words; the first is the default.
func oneOf[T ~string](target *T, words ...T) value {
	*target = words[0]
	return value{
		set: func(text string) error {
			for _, w := range words {
				if text == string(w) {
					*target = w
					return nil
				}
			}
			return fmt.Errorf("must be one of %v", words)
		},
		get: func() string { return string(*target) },
	}
}

// number is a decimal number that fits the type.
func number[T uint16 | uint32](target *T, standard T) value {
	*target = standard
	return value{
		set: func(text string) error {
			var n T
			if _, err := fmt.Sscanf(text, "%d", &n); err != nil || fmt.Sprint(n) != text {
				return fmt.Errorf("must be a number up to %d", ^T(0))
			}
			*target = n
			return nil
		},
		get: func() string { return fmt.Sprint(*target) },
	}
}

// quantities are resources such as cpu=20m,memory=128Mi; empty for none.
func quantities(target *corev1.ResourceList, standard string) value {
	text := standard
	set := func(s string) error {
		list := corev1.ResourceList{}
		for pair := range strings.SplitSeq(s, ",") {
			if s == "" {
				break
			}
			name, amount, ok := strings.Cut(pair, "=")
			quantity, err := resource.ParseQuantity(amount)
			if !ok || name == "" || err != nil || quantity.Sign() < 0 {
				return fmt.Errorf("%q: must be like cpu=20m,memory=128Mi", pair)
			}
			list[corev1.ResourceName(name)] = quantity
		}
		*target, text = list, s
		return nil
	}
	_ = set(standard)
	return value{set: set, get: func() string { return text }}
}

// listOf is values that are separated by commas.
func listOf[T any](target *[]T, parse func(string) (T, error), format func(T) string) value {
	return value{
		set: func(text string) error {
			values, errs := inject.ParseList(text, parse)
			*target = values
			return errors.Join(errs...)
		},
		get: func() string {
			texts := make([]string, len(*target))
			for i, v := range *target {
				texts[i] = format(v)
			}
			return strings.Join(texts, ",")
		},
	}
}
