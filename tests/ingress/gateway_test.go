package ingress

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
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
	statsPort      = "8900"
	memoryLimit    = 1 << 30

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
	envoy           *os.Process
	// folder stands for the volumes of Envoy's container.
	folder string
	// adjustBootstrap changes the chart's.
	adjustBootstrap func(string) string
	// drainSeconds is Envoy's --drain-time-s; 0 for the chart's.
	drainSeconds int
	// flags are more of Envoy's.
	flags []string
	// secure has hostile clients speak TLS.
	secure bool
	// complaint is what Envoy may complain of.
	complaint string
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
	g := newGateway(t, adjust...)
	g.run()
	return g
}

// newGateway is a gateway before Envoy and the control plane run.
func newGateway(t testing.TB, adjust ...func(*ingress.Config, *envoy.GatewayConfig)) *gateway {
	t.Helper()
	g := &gateway{t: t, log: &injected.Output{}, problems: map[mesh.Object]string{}, now: time.Now()}
	g.inside, g.outside = injected.Network(t, gatewayAddress, serverAddress)
	chain, key := injected.Pair(t, time.Hour, "fallback.invalid")
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
	return g
}

func (g *gateway) run() {
	g.t.Helper()
	g.startEnvoy(g.startControl())
	g.publish()
	g.listens()
}

// listens waits until the gateway does.
func (g *gateway) listens() {
	g.t.Helper()
	g.eventually("the gateway listens", func() error {
		c, err := g.dial(g.t.Context(), "127.0.0.1:8080")
		if err == nil {
			c.Close()
		}
		return err
	})
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
	dir, err := os.MkdirTemp("", "gw") // the admin socket's path is short
	if err != nil {
		g.t.Fatal(err)
	}
	g.folder = dir
	command := exec.Command(binary, append([]string{
		"--config-path", g.files(control, ca), "--disable-hot-restart", "--concurrency", "2", "--log-level", "warning",
		"--drain-time-s", strconv.Itoa(cmp.Or(g.drainSeconds, 30)), "--file-flush-interval-msec", "10",
	}, g.flags...)...)
	command.Stdout, command.Stderr, command.SysProcAttr = g.log, g.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	injected.Inside(g.t, g.inside, command.Start)
	g.envoy = command.Process
	g.t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		os.RemoveAll(dir)
		for _, line := range regexp.MustCompile(`(?m)^\[.*\]\[(warning|error|critical)\].*$`).FindAllString(g.log.String(), -1) {
			if g.complaint == "" || !strings.Contains(line, g.complaint) {
				g.t.Errorf("Envoy complains: %s", line)
			}
		}
		g.mu.Lock()
		defer g.mu.Unlock()
		for _, r := range g.rejections {
			g.t.Errorf("Envoy refused %v: %s", r.Key, r.Message)
		}
	})
}

// files writes what the chart gives the gateway's Envoy, with what the kubelet puts in, and returns the bootstrap's path.
func (g *gateway) files(control, ca string) string {
	g.t.Helper()
	files, err := inject.GatewayFiles()
	if err != nil {
		g.t.Fatal(err)
	}
	authority, err := os.ReadFile(ca)
	if err != nil {
		g.t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(control)
	if err != nil {
		g.t.Fatal(err)
	}
	values := strings.NewReplacer("$(CONTROL_HOST)", "localhost", "$(CONTROL_PORT)", port, "$(CONTROL_FAMILY)", "V4_ONLY",
		"$(MEMORY_LIMIT)", fmt.Sprint(memoryLimit), "$(POD_IP)", gatewayAddress, "$(STATS_PORT)", statsPort,
		"/run/traffic/", g.folder+"/", "/var/run/secrets/kubernetes.io/serviceaccount/", g.folder+"/")
	bootstrap := values.Replace(files["ingress-bootstrap.json"])
	if g.adjustBootstrap != nil {
		bootstrap = g.adjustBootstrap(bootstrap)
	}
	for name, text := range map[string]string{
		"envoy.json": bootstrap, "token": "the-gateway's", "ca.crt": string(authority),
		"token-sds.json": values.Replace(files["ingress-token-sds.json"]), "ca-sds.json": values.Replace(files["ingress-ca-sds.json"]),
	} {
		if err := os.WriteFile(filepath.Join(g.folder, name), []byte(text), 0o600); err != nil {
			g.t.Fatal(err)
		}
	}
	return filepath.Join(g.folder, "envoy.json")
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
	chain, key := injected.Pair(g.t, time.Hour, hosts...)
	g.secret(name, chain, key)
}

func (g *gateway) secret(name string, chain, key []byte) {
	g.t.Helper()
	g.model.SetSecret(secretOf(name, chain, key))
	g.publish()
}

func secretOf(name string, chain, key []byte) *corev1.Secret {
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Data:       map[string][]byte{corev1.TLSCertKey: chain, corev1.TLSPrivateKeyKey: key},
	}
}

// publish waits until Envoy has taken all that changed.
func (g *gateway) publish() {
	g.t.Helper()
	update := g.flush()
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

// flush returns what changed.
func (g *gateway) flush() envoy.Update {
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
	return update
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
