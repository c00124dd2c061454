package main

import (
	"context"
	"errors"
	"flag"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// TestWrongCalls: who calls it wrongly reads why, and a script sees it.
func TestWrongCalls(t *testing.T) {
	t.Setenv("KUBECONFIG", "/does/not/exist")
	t.Setenv("HOME", t.TempDir())
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	tests := []struct {
		name string
		args []string
		code int
		says string
	}{
		{"help", []string{"-h"}, 0, "-access-log"},
		{"no namespace", nil, 2, "--namespace must not be empty"},
		{"a flag that is none", []string{"--namespase=x"}, 2, "namespase"},
		{"a word too many", []string{"--namespace=x", "go"}, 2, `unknown argument "go"`},
		{"a log of nothing", []string{"--namespace=x", "--access-log=some"}, 2, `access log "some" is not all, errors or off`},
		{"a collector of another kind", []string{"--namespace=x", "--tracing-kind=jaeger"}, 2, `collector kind "jaeger" is not zipkin or otlp`},
		{"a collector without port", []string{"--namespace=x", "--tracing-address=zipkin"}, 2, `collector address "zipkin" is not host:port`},
		{"a domain that is none", []string{"--namespace=x", "--cluster-domain=cluster.local."}, 2, `--cluster-domain="cluster.local." is no domain`},
		{"a gateway of one port", []string{"--namespace=x", "--gateway-http-port=8443"}, 2, "--gateway-http-port and --gateway-https-port are both 8443"},
		{"a gateway that keeps silent clients for ever", []string{"--namespace=x", "--gateway-idle-timeout=0"}, 2, "--gateway-idle-timeout=0s is less than 1s"},
		{"a gateway of a port that is none", []string{"--namespace=x", "--gateway-https-port=08443"}, 2, `"08443" is not a port`},
		{"a gateway's account that is none", []string{"--namespace=x", "--gateway-service-account=a/b"}, 2, `--gateway-service-account="a/b" is no name`},
		{"an old TLS", []string{"--namespace=x", "--gateway-tls-minimum=1.1"}, 2, `TLS version "1.1" is not 1.2 or 1.3`},
		{"a cipher that is none", []string{"--namespace=x", "--gateway-tls-ciphers=ECDHE-RSA-AES128-SHA,RC4-SHA"}, 2, `cipher "RC4-SHA" is none of TLS 1.2 that Envoy knows: ECDHE-ECDSA-AES128-GCM-SHA256,`},
		{"a log format that is none", []string{"--namespace=x", "--gateway-access-log-format=xml"}, 2, `"xml" is not text or json`},
		{"a certificate of no namespace", []string{"--namespace=x", "--gateway-default-certificate=web"}, 2, `"web" is not namespace/name`},
		{"no cluster", []string{"--namespace=x"}, 1, "no way to the Kubernetes API"},
		{"no kubeconfig", []string{"--namespace=x", "--kubeconfig=/does/not/exist"}, 1, "/does/not/exist"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var output strings.Builder
			if code := run(test.args, &output); code != test.code || !strings.Contains(output.String(), test.says) {
				t.Errorf("exit %d, want %d with %q:\n%s", code, test.code, test.says, &output)
			}
		})
	}
}

// TestFlagsOfInjection: the advice to a workload without Envoy is right only if the model knows what the webhook does.
func TestFlagsOfInjection(t *testing.T) {
	c, err := parseFlags([]string{"--namespace=x"}, io.Discard)
	if err != nil || c.mesh.TemplatesOnly || len(c.mesh.NeverInjected) > 0 {
		t.Errorf("by default: %+v, %v", c.mesh, err)
	}
	c, err = parseFlags([]string{"--namespace=x", "--copy-workload-label=false", "--never-injected=kube-system,x"}, io.Discard)
	if err != nil || !c.mesh.TemplatesOnly || !slices.Equal(c.mesh.NeverInjected, []string{"kube-system", "x"}) {
		t.Errorf("got %+v, %v", c.mesh, err)
	}
}

// TestReadme: whoever runs the program finds each flag, with its default, where its use is described.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var usage strings.Builder
	if _, err := parseFlags([]string{"-h"}, &usage); !errors.Is(err, flag.ErrHelp) {
		t.Fatal(err)
	}
	flags := regexp.MustCompile(`(?m)^  -([a-z0-9-]+)`).FindAllStringSubmatch(usage.String(), -1)
	if len(flags) == 0 {
		t.Fatalf("no flags in\n%s", &usage)
	}
	for _, f := range flags {
		if !strings.Contains(string(readme), "| `--"+f[1]+"` |") {
			t.Errorf("README.md does not describe --%s", f[1])
		}
	}
	if rows := strings.Count(string(readme), "\n| `--"); rows != len(flags) {
		t.Errorf("README.md describes %d flags of %d", rows, len(flags))
	}
	for _, value := range regexp.MustCompile(`default "?([^")]+)"?\)`).FindAllStringSubmatch(usage.String(), -1) {
		if !strings.Contains(string(readme), "` | `"+strings.ToLower(value[1])+"` |") {
			t.Errorf("README.md does not have the default %q", value[1])
		}
	}
}

// TestStatus asks what the kubelet and Prometheus ask.
func TestStatus(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "traffic_test"}))
	var ready, expired atomic.Bool
	check := readiness(ready.Load, func(time.Time) error {
		if expired.Load() {
			return errors.New("the certificate is not valid")
		}
		return nil
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- serveStatus(ctx, l, registry, check) }()

	get := func(path string) (int, string) {
		response, err := http.Get("http://" + l.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		return response.StatusCode, string(body)
	}
	for _, ask := range []struct {
		path           string
		ready, expired bool
		code           int
		says           string
	}{
		{"/healthz", false, true, 200, "ok"},
		{"/readyz", false, false, 503, "not all objects are known yet"},
		{"/readyz", true, false, 200, "ok"},
		{"/readyz", true, true, 503, "the certificate is not valid"},
		{"/metrics", true, false, 200, "traffic_test 0"},
		{"/debug/pprof/", true, false, 404, ""},
	} {
		ready.Store(ask.ready)
		expired.Store(ask.expired)
		if code, body := get(ask.path); code != ask.code || !strings.Contains(body, ask.says) {
			t.Errorf("%s when ready is %v: %d %q, want %d %q", ask.path, ask.ready, code, body, ask.code, ask.says)
		}
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("stopped with %v", err)
	}
}
