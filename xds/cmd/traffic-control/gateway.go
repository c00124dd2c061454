package main

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"math/big"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/kubernetes"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/report"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
	"github.com/kubernetes-traffic-manager/traffic/xds/watch"
)

// defaultController is what IngressClasses name whose Ingresses the gateway serves.
const defaultController = "kubernetes-traffic-manager/ingress"

// A gatewayConfig is what the flags say of the ingress gateway.
type gatewayConfig struct {
	// account is the ServiceAccount of its pods, in the release's namespace; empty for no gateway.
	account string
	// service is where clients reach it.
	service   string
	model     ingress.Config
	resources envoy.GatewayConfig
}

func (c *gatewayConfig) addFlags(flags *flag.FlagSet) {
	c.model.Controller, c.resources = defaultController, envoy.GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, LogFormat: envoy.LogText, MinimumTLS: envoy.TLS12}
	flags.StringVar(&c.account, "gateway-service-account", "", "ServiceAccount of the ingress gateway's pods, in the release's namespace; empty for no gateway")
	flags.StringVar(&c.service, "gateway-service", "traffic-ingress", "Service of the gateway, in the release's namespace: its address is shown in the status of Ingresses")
	flags.StringVar(&c.model.Controller, "ingress-controller", defaultController, "controller of the IngressClasses whose Ingresses the gateway serves")
	flags.BoolVar(&c.model.ClassRequired, "ingress-class-required", false, "leave Ingresses without a class to others")
	flags.Func("gateway-http-port", "port that the gateway binds for plain requests (default 8080)", port(&c.resources.HTTPPort))
	flags.Func("gateway-https-port", "port that the gateway binds for TLS (default 8443)", port(&c.resources.HTTPSPort))
	flags.BoolVar(&c.resources.IPv6, "gateway-ipv6", true, "bind both families; false for nodes without IPv6")
	flags.Func("gateway-trusted-hops", "proxies in front of the gateway whose X-Forwarded-For is believed (default 0)", number(&c.resources.TrustedHops))
	flags.BoolVar(&c.resources.ProxyProtocol, "gateway-proxy-protocol", false, "expect every connection to the gateway to begin with the PROXY protocol")
	flags.DurationVar(&c.resources.IdleTimeout, "gateway-idle-timeout", envoy.DefaultIdleTimeout, "how long the gateway keeps a client's connection without a request, at least 1s")
	flags.Var(&c.resources.LogFormat, "gateway-access-log-format", "how the gateway logs a request: text or json")
	flags.Var(&c.resources.MinimumTLS, "gateway-tls-minimum", "lowest version of TLS at the gateway: 1.2 or 1.3")
	flags.Func("gateway-tls-ciphers", "ciphers of TLS 1.2 as OpenSSL names them, separated by commas; empty for Envoy's", func(text string) (err error) {
		c.resources.Ciphers, err = envoy.ParseCiphers(text)
		return err
	})
	flags.Func("gateway-default-certificate", "namespace/name of the Secret for unknown hosts, and for Ingresses that name none; empty for none", c.setDefault)
}

func port(to *uint16) func(string) error {
	return func(text string) error {
		var n uint16
		if _, err := fmt.Sscanf(text, "%d", &n); err != nil || n == 0 || fmt.Sprint(n) != text {
			return fmt.Errorf("%q is not a port from 1 to 65535", text)
		}
		*to = n
		return nil
	}
}

func number(to *uint32) func(string) error {
	return func(text string) error {
		var n uint8
		if _, err := fmt.Sscanf(text, "%d", &n); err != nil || fmt.Sprint(n) != text {
			return fmt.Errorf("%q is not a number from 0 to 255", text)
		}
		*to = uint32(n)
		return nil
	}
}

func (c *gatewayConfig) setDefault(text string) error {
	if text == "" {
		return nil
	}
	namespace, name, _ := strings.Cut(text, "/")
	if validation.IsDNS1123Label(namespace) != nil || validation.IsDNS1123Subdomain(name) != nil {
		return fmt.Errorf("%q is not namespace/name", text)
	}
	c.model.DefaultCertificate = mesh.Object{Kind: ingress.Secret, Namespace: namespace, Name: name}
	c.resources.DefaultCertificate = c.model.DefaultCertificate
	return nil
}

// check returns what of the flags cannot be together.
func (c *gatewayConfig) check() error {
	switch {
	case c.account != "" && validation.IsDNS1123Subdomain(c.account) != nil:
		return fmt.Errorf("--gateway-service-account=%q is no name", c.account)
	case c.model.Controller == "":
		return fmt.Errorf("--ingress-controller must not be empty")
	case c.resources.HTTPPort == c.resources.HTTPSPort:
		return fmt.Errorf("--gateway-http-port and --gateway-https-port are both %d", c.resources.HTTPPort)
	case c.resources.IdleTimeout < time.Second:
		return fmt.Errorf("--gateway-idle-timeout=%v is less than 1s", c.resources.IdleTimeout)
	}
	return nil
}

// qualified is how a token proves the account.
func (c *gatewayConfig) qualified(namespace string) string {
	if c.account == "" {
		return ""
	}
	return namespace + "/" + c.account
}

// gateway connects what Ingresses need; nil without a gateway.
func gateway(c config, source *watch.Source, client kubernetes.Interface, statuses *report.Statuses, translator *envoy.Translator, server *serve.Server) (*watch.GatewayConfig, error) {
	if c.gateway.account == "" {
		return nil, nil
	}
	err := errors.Join(
		source.FollowIngresses(client, statuses.Changed),
		source.FollowService(client, c.namespace, c.gateway.service, statuses.SetService),
	)
	if err != nil {
		return nil, err
	}
	return c.gateway.connect(statuses, translator, server)
}

func (c *gatewayConfig) connect(statuses *report.Statuses, translator *envoy.Translator, server *serve.Server) (*watch.GatewayConfig, error) {
	var err error
	if c.resources.Fallback, err = fallback(time.Now()); err != nil {
		return nil, fmt.Errorf("fallback certificate: %w", err)
	}
	resources, err := envoy.NewGateway(translator, c.resources)
	if err != nil {
		return nil, err
	}
	return &watch.GatewayConfig{Model: c.model, Resources: resources, Publisher: gatewayPublisher{server}, OnServed: statuses.Served}, nil
}

// A gatewayPublisher is a server as a Watcher sees it that publishes to gateways.
type gatewayPublisher struct{ *serve.Server }

func (p gatewayPublisher) Publish(update envoy.Update, applied func(watch.Applied)) {
	p.PublishGateway(update, func(a serve.Applied) { applied(watch.Applied(a)) })
}

// fallbackFor is how long the fallback certificate lasts: longer than any process.
const fallbackFor = 10 * 365 * 24 * time.Hour

// fallback makes the certificate that the gateway shows in place of one that cannot be used. It is for no host and signed by
// nobody, so that no client takes it for the right one.
func fallback(now time.Time) (ingress.Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return ingress.Pair{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	template := &x509.Certificate{
		SerialNumber: serial, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(fallbackFor),
		Subject:  pkix.Name{CommonName: "traffic-ingress fallback: this host's certificate cannot be used"},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, createErr := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	keyDER, marshalErr := x509.MarshalPKCS8PrivateKey(key)
	if err := cmp.Or(err, createErr, marshalErr); err != nil {
		return ingress.Pair{}, err
	}
	return ingress.Pair{
		Chain: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		Key:   pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
	}, nil
}
