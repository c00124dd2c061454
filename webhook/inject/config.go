package inject

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
)

// A Policy is what happens to a redirected connection whose address no label opens.
type Policy string

// The policies: answer 404 and close, or forward to the address that was dialled.
const (
	Block       Policy = "block"
	Passthrough Policy = "passthrough"
)

// Config is what an injected pod looks like. All of it ends up in pods, so it is the same for every replica.
type Config struct {
	// ProxyImage is a stock Envoy image, VerifyImage holds the command traffic-verify.
	ProxyImage, VerifyImage string
	ImagePullPolicy         corev1.PullPolicy
	// PullSecrets are the names of Secrets that every injected pod pulls images with, besides its own.
	PullSecrets []string
	// Verify adds the init container that waits until the pod's connections reach its own Envoy.
	Verify bool

	// ProxyUID is Envoy's user and group, whose connections are not redirected; not 0 and not VerifyUID.
	ProxyUID uint32
	// ProxyPort receives redirected connections, StatsPort serves /ready and /stats/prometheus; 1 to 65535, different.
	ProxyPort, StatsPort uint16
	// Concurrency is the number of Envoy's worker threads, 1 to 64.
	Concurrency int
	// LogLevel is the level of Envoy's own log, as Envoy spells it.
	LogLevel                        string
	ProxyResources, VerifyResources corev1.ResourceRequirements
	// IPv6 must be false for nodes whose kernel has no IPv6, where Envoy cannot even parse an IPv6 address.
	IPv6 bool

	OutboundPolicy Policy
	// ExcludeCIDRs and ExcludePorts are not redirected, in any pod.
	ExcludeCIDRs []netip.Prefix
	ExcludePorts []redirect.PortRange

	// ControlHost is the DNS name of the control plane and the name in its certificate; ControlPort is its port.
	ControlHost string
	ControlPort uint16
	// CA is the certificates by which a pod verifies the control plane, for as long as the pod lives.
	CA []*x509.Certificate
}

// VerifyUID is the user of traffic-verify: any but the proxy's, whose connections are not redirected.
const VerifyUID = 65532

var logLevels = map[string]bool{
	"trace": true, "debug": true, "info": true, "warning": true, "error": true, "critical": true, "off": true,
}

// Validate reports every value that would make pods which cannot start.
func (c Config) Validate() error {
	var errs []error
	check := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	check(c.ProxyImage != "", "proxy image: must not be empty")
	check(c.VerifyImage != "" || !c.Verify, "verify image: must not be empty; or switch the check off")
	for _, name := range c.PullSecrets {
		check(len(validation.IsDNS1123Subdomain(name)) == 0, "pull secret %q: must be the name of a Secret", name)
	}
	check(c.ProxyUID != 0 && c.ProxyUID != VerifyUID && c.ProxyUID <= 1<<31-1,
		"proxy uid %d: must be 1 to %d and not %d, which is traffic-verify's", c.ProxyUID, 1<<31-1, VerifyUID)
	errs = append(errs, exceeding("proxy", c.ProxyResources), exceeding("verify", c.VerifyResources))
	check(c.ProxyPort != 0, "proxy port 0: must be 1 to 65535")
	check(c.StatsPort != 0 && c.StatsPort != c.ProxyPort, "stats port %d: must be 1 to 65535 and not the proxy port", c.StatsPort)
	check(c.Concurrency >= 1 && c.Concurrency <= 64, "proxy concurrency %d: must be 1 to 64", c.Concurrency)
	check(logLevels[c.LogLevel], "proxy log level %q: must be trace, debug, info, warning, error, critical or off", c.LogLevel)
	check(c.OutboundPolicy == Block || c.OutboundPolicy == Passthrough,
		"outbound default policy %q: must be %s or %s", c.OutboundPolicy, Block, Passthrough)
	check(c.ControlHost != "" && !strings.Contains(c.ControlHost, "$"), "control host %q: must be a DNS name", c.ControlHost)
	check(c.ControlPort != 0, "control port 0: must be 1 to 65535")
	if err := c.redirectSpec().Validate(); err != nil {
		errs = append(errs, err)
	}
	check(len(c.CA) > 0, "CA: at least one certificate is needed")
	return errors.Join(errs...)
}

// exceeding says which requests of a container are more than its limits: the API server would refuse every pod.
func exceeding(container string, r corev1.ResourceRequirements) error {
	var errs []error
	for name, request := range r.Requests {
		if limit, limited := r.Limits[name]; limited && request.Cmp(limit) > 0 {
			errs = append(errs, fmt.Errorf("%s requests %s=%s: must be at most the limit %s", container, name, request.String(), limit.String()))
		}
	}
	return errors.Join(errs...)
}

// redirectSpec is the spec of a pod without exclusions of its own.
func (c Config) redirectSpec() redirect.Spec {
	return redirect.Spec{
		Version:      redirect.Version,
		ProxyUID:     c.ProxyUID,
		ProxyPort:    c.ProxyPort,
		ExcludeCIDRs: c.ExcludeCIDRs,
		ExcludePorts: c.ExcludePorts,
	}
}
