package ingress

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
	"github.com/kubernetes-traffic-manager/traffic/xds/serve"
)

const (
	// binary is the Envoy that the local cluster runs.
	binary = "../../.local/bin/envoy"

	gatewayAddress = "10.244.7.2"
	serverAddress  = "10.244.7.1"

	controller = "kubernetes-traffic-manager/ingress"
	patience   = 20 * time.Second
)

// A gateway is a running Envoy with the control plane that makes it one.
type gateway struct {
	t testing.TB
	// inside is where Envoy is, and its clients; outside is where the servers of Services are.
	inside, outside ns.NetNS
	server          *serve.Server
	mesh            *mesh.Mesh
	model           *ingress.Gateway
	resources       *envoy.Gateway
	fallback        ingress.Pair
	log             *injected.Output
	// problems is what Ingresses were told.
	problems map[mesh.Object]string

	mu         sync.Mutex
	rejections []serve.Rejection
	now        time.Time
}

// tokens accepts the gateway's.
type tokens struct{}

func (tokens) Authenticate(_ context.Context, token string) (serve.Identity, error) {
	if token != "the-gateway's" {
		return serve.Identity{}, serve.ErrRefused
	}
	return serve.Identity{Namespace: "traffic-system", ServiceAccount: "traffic-ingress", Pod: "traffic-ingress-0", UID: "0"}, nil
}

// start runs a gateway that serves nothing yet.
func start(t testing.TB, adjust ...func(*ingress.Config, *envoy.GatewayConfig)) *gateway {
	t.Helper()
	g := &gateway{t: t, log: &injected.Output{}, problems: map[mesh.Object]string{}, now: time.Now()}
	g.inside, g.outside = injected.Network(t, gatewayAddress, serverAddress)
	chain, key := newPair(t, time.Hour, "fallback.invalid")
	g.fallback = ingress.Pair{Chain: chain, Key: key}
	model := ingress.Config{Controller: controller}
	resources := envoy.GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, IPv6: true, Fallback: g.fallback}
	for _, f := range adjust {
		f(&model, &resources)
	}
	translator, err := envoy.NewTranslator(envoy.Config{AccessLog: envoy.LogAll})
	if err != nil {
		t.Fatal(err)
	}
	if g.resources, err = envoy.NewGateway(translator, resources); err != nil {
		t.Fatal(err)
	}
	g.mesh, g.model = mesh.New(mesh.Config{}), ingress.New(model)
	g.startEnvoy(g.startControl())
	g.publish()
	g.eventually("the gateway listens", func() error {
		c, err := g.dial(t.Context(), "127.0.0.1:8080")
		if err == nil {
			c.Close()
		}
		return err
	})
	return g
}

// startControl runs the control plane beside Envoy, and returns its address and the file of who vouches for it.
func (g *gateway) startControl() (address, ca string) {
	g.t.Helper()
	dir := g.t.TempDir()
	injected.Certificate(g.t, dir)
	var err error
	g.server, err = serve.New(serve.Config{
		Linger:        serve.Linger,
		Authenticator: tokens{}, GatewayAccount: "traffic-system/traffic-ingress",
		CertFile: filepath.Join(dir, "tls.crt"), KeyFile: filepath.Join(dir, "tls.key"),
		Registerer: prometheus.NewRegistry(), Logger: slog.New(slog.NewTextHandler(g.t.Output(), nil)),
		OnReject: func(r serve.Rejection) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.rejections = append(g.rejections, r)
		},
	})
	if err != nil {
		g.t.Fatal(err)
	}
	l := g.listen(g.inside, "127.0.0.1:0")
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(ctx, l) }()
	g.t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			g.t.Errorf("Serve: %v", err)
		}
	})
	return l.Addr().String(), filepath.Join(dir, "tls.crt")
}

// startEnvoy runs Envoy until the test ends, which fails if Envoy refused or complained of anything.
func (g *gateway) startEnvoy(control, ca string) {
	g.t.Helper()
	dir := g.t.TempDir()
	path := filepath.Join(dir, "envoy.json")
	if err := os.WriteFile(path, bootstrap(g.t, control, ca, dir), 0o600); err != nil {
		g.t.Fatal(err)
	}
	command := exec.Command(binary, "--config-path", path, "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning",
		"--drain-time-s", "30", "--file-flush-interval-msec", "10")
	command.Stdout, command.Stderr, command.SysProcAttr = g.log, g.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	injected.Inside(g.t, g.inside, command.Start)
	g.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		for _, line := range regexp.MustCompile(`(?m)^\[.*\]\[(warning|error|critical)\].*$`).FindAllString(g.log.String(), -1) {
			g.t.Errorf("Envoy complains: %s", line)
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, r := range g.rejections {
			g.t.Errorf("Envoy refused %v: %s", r.Key, r.Message)
		}
	})
}

// edgeOf is the chart's bootstrap, of which the limits are taken.
func edgeOf(t testing.TB, dir string) (edge map[string]any) {
	t.Helper()
	files, err := inject.GatewayFiles()
	if err != nil {
		t.Fatal(err)
	}
	values := strings.NewReplacer("$(MEMORY_LIMIT)", "1073741824", "/run/traffic/", dir+"/")
	if err := json.Unmarshal([]byte(values.Replace(files["ingress-bootstrap.json"])), &edge); err != nil {
		t.Fatal(err)
	}
	return edge
}

// bootstrap is what a gateway must have: its node id, the way to the control plane, its token, and the edge's limits.
func bootstrap(t testing.TB, control, ca, dir string) []byte {
	t.Helper()
	type object = map[string]any
	at := netip.MustParseAddrPort(control)
	typed := func(name string, fields object) object {
		fields["@type"] = "type.googleapis.com/" + name
		return fields
	}
	token := filepath.Join(dir, "token.json")
	secret := object{"resources": []object{typed("envoy.extensions.transport_sockets.tls.v3.Secret", object{
		"name": "token", "generic_secret": object{"secret": object{"inline_string": "Bearer the-gateway's"}},
	})}}
	text, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(token, text, 0o600); err != nil {
		t.Fatal(err)
	}
	source := object{"ads": object{}, "resource_api_version": "V3"}
	injector := typed("envoy.extensions.filters.http.credential_injector.v3.CredentialInjector", object{
		"overwrite": true,
		"credential": object{"name": "token", "typed_config": typed("envoy.extensions.http.injected_credentials.generic.v3.Generic", object{
			"header": "authorization",
			"credential": object{"name": "token", "sds_config": object{
				"path_config_source": object{"path": token}, "resource_api_version": "V3", "initial_fetch_timeout": "0s",
			}},
		})},
	})
	edge := edgeOf(t, dir)
	config := object{
		"node": object{"id": serve.GatewayNodeID, "cluster": serve.GatewayNodeID},
		"dynamic_resources": object{
			"lds_config": source, "cds_config": source,
			"ads_config": object{
				"api_type": "DELTA_GRPC", "transport_api_version": "V3", "set_node_on_first_message_only": true,
				"grpc_services": []object{{"envoy_grpc": object{"cluster_name": "traffic-control"}}},
			},
		},
		"overload_manager": edge["overload_manager"], "layered_runtime": edge["layered_runtime"],
		"static_resources": object{"clusters": []object{{
			"name": "traffic-control", "type": "STATIC", "connect_timeout": "1s",
			"load_assignment": object{"cluster_name": "traffic-control", "endpoints": []object{{"lb_endpoints": []object{{
				"endpoint": object{"address": object{"socket_address": object{"address": at.Addr().String(), "port_value": at.Port()}}},
			}}}}},
			"typed_extension_protocol_options": object{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(
				"envoy.extensions.upstreams.http.v3.HttpProtocolOptions", object{
					"explicit_http_config": object{"http2_protocol_options": object{}},
					"http_filters": []object{
						{"name": "token", "typed_config": injector},
						{"name": "codec", "typed_config": typed("envoy.extensions.filters.http.upstream_codec.v3.UpstreamCodec", object{})},
					},
				})},
			"transport_socket": object{"name": "tls", "typed_config": typed("envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext", object{
				"sni": "localhost",
				"common_tls_context": object{
					"tls_params":         object{"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
					"validation_context": object{"trusted_ca": object{"filename": ca}},
				},
			})},
		}}},
	}
	if text, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	return text
}

// apply reads Kubernetes objects as kubectl would, tells the control plane of them, and waits until Envoy has what follows.
func (g *gateway) apply(objects string) {
	g.t.Helper()
	for document := range bytes.SplitSeq([]byte(objects), []byte("\n---\n")) {
		g.set(document)
	}
	g.publish()
}

func (g *gateway) set(document []byte) {
	g.t.Helper()
	var head metav1.PartialObjectMetadata
	into := func(o any) {
		if err := yaml.UnmarshalStrict(document, o); err != nil {
			g.t.Fatalf("%v in\n%s", err, document)
		}
	}
	if err := yaml.Unmarshal(document, &head); err != nil {
		g.t.Fatal(err)
	}
	switch head.Kind {
	case "Ingress":
		i := &networkingv1.Ingress{}
		into(i)
		i.Namespace = "default"
		g.model.SetIngress(i)
	case "Service":
		s := &corev1.Service{}
		into(s)
		s.Namespace = "default"
		g.mesh.SetService(s)
	default:
		g.t.Fatalf("kind %q", head.Kind)
	}
}

// remove takes Ingresses away.
func (g *gateway) remove(names ...string) {
	g.t.Helper()
	for _, name := range names {
		g.model.Delete(mesh.Object{Kind: ingress.Ingress, Namespace: "default", Name: name})
	}
	g.publish()
}

// certificate makes a Secret of a certificate for hosts.
func (g *gateway) certificate(name string, hosts ...string) {
	g.t.Helper()
	chain, key := newPair(g.t, time.Hour, hosts...)
	g.secret(name, chain, key)
}

func (g *gateway) secret(name string, chain, key []byte) {
	g.t.Helper()
	g.model.SetSecret(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Data:       map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	})
	g.publish()
}

// publish waits until Envoy has taken all that changed.
func (g *gateway) publish() {
	g.t.Helper()
	changes := g.model.Flush(g.now, g.mesh, g.mesh.Flush().Services)
	update, failures := g.resources.Apply(changes)
	for _, f := range failures {
		g.t.Errorf("%s of %s: %v", f.Key, f.Object, f.Err)
	}
	for _, c := range changes.Problems {
		var words []string
		for _, p := range c.Problems {
			words = append(words, p.String())
		}
		g.problems[c.Object] = strings.Join(words, "\n")
	}
	done := make(chan serve.Applied, 1)
	g.server.PublishGateway(update, func(a serve.Applied) { done <- a })
	select {
	case a := <-done:
		if a.Rejected+a.Late+a.Gone > 0 {
			g.t.Errorf("applied: %+v", a)
		}
	case <-time.After(patience):
		g.t.Fatal("an update is not answered")
	}
}

// told returns the problems of an Ingress.
func (g *gateway) told(name string) string {
	return g.problems[mesh.Object{Kind: ingress.Ingress, Namespace: "default", Name: name}]
}

func (g *gateway) listen(n ns.NetNS, address string) (l net.Listener) {
	g.t.Helper()
	injected.Inside(g.t, n, func() (err error) {
		l, err = net.Listen("tcp", address)
		return err
	})
	g.t.Cleanup(func() { l.Close() })
	return l
}

// dial connects as a client in Envoy's network does.
func (g *gateway) dial(ctx context.Context, address string) (c net.Conn, err error) {
	err = g.inside.Do(func(ns.NetNS) error {
		c, err = (&net.Dialer{Timeout: 5 * time.Second}).DialContext(ctx, "tcp", address)
		return err
	})
	return c, err
}

func (g *gateway) eventually(what string, try func() error) {
	g.t.Helper()
	var err error
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if err = try(); err == nil {
			return
		}
	}
	g.t.Fatalf("not in %v: %s: %v", patience, what, err)
}

// endpoint is a Service's EndpointSlice with the servers at these ports.
func (g *gateway) endpoints(service string, ports ...uint16) {
	for i, port := range ports {
		name, number, protocol := "", int32(port), corev1.ProtocolTCP
		g.mesh.SetEndpointSlice(&discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "default", Name: fmt.Sprint(service, "-", i), Labels: map[string]string{discoveryv1.LabelServiceName: service},
			},
			Ports:     []discoveryv1.EndpointPort{{Name: &name, Port: &number, Protocol: &protocol}},
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{serverAddress}}},
		})
	}
}

func objectOf(kind, name string) mesh.Object {
	return mesh.Object{Kind: kind, Namespace: "default", Name: name}
}
