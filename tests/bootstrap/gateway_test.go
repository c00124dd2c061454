package bootstrap_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/fixed_heap/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/injected_resource/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/xds/drain"
	resources "github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

// A gateway is the chart's Envoy: the files of the chart, with what the kubelet puts in.
type gateway struct {
	*sandbox
	t testing.TB
	// folder stands for the volumes.
	folder, socket string
	log            *injected.Output
}

// gatewayFiles are the chart's, for a gateway in the sandbox.
func gatewayFiles(t *testing.T, folder string, port uint16) map[string]string {
	t.Helper()
	files, err := inject.GatewayFiles()
	if err != nil {
		t.Fatal(err)
	}
	values := strings.NewReplacer("$(CONTROL_HOST)", "localhost", "$(CONTROL_PORT)", fmt.Sprint(port), "$(CONTROL_FAMILY)", "ALL",
		"$(MEMORY_LIMIT)", fmt.Sprint(1<<30), "$(POD_IP)", podIPv4, "$(STATS_PORT)", "8900",
		"/run/traffic/", folder+"/", "/var/run/secrets/kubernetes.io/serviceaccount/", folder+"/identity/")
	for name, text := range files {
		files[name] = values.Replace(text)
	}
	return files
}

// startGateway runs Envoy with what vouches for a control plane, right or not.
func startGateway(t *testing.T, s *sandbox, port uint16, authority []byte) *gateway {
	t.Helper()
	folder, err := os.MkdirTemp("", "gw") // the socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	g := &gateway{sandbox: s, t: t, folder: folder, socket: filepath.Join(folder, "admin.sock"), log: &injected.Output{}}
	if err := os.Mkdir(filepath.Join(folder, "identity"), 0o755); err != nil {
		t.Fatal(err)
	}
	files := gatewayFiles(t, folder, port)
	g.project(map[string]string{
		"token": "the-token", "token-sds.json": files["ingress-token-sds.json"], "ca-sds.json": files["ingress-ca-sds.json"],
		"ca.crt": string(authority),
	})
	command := exec.Command(envoy, "--disable-hot-restart", "--concurrency", "1", "--drain-time-s", "1", "--log-level", "warning",
		"--config-yaml", files["ingress-bootstrap.json"])
	command.Stdout, command.Stderr, command.SysProcAttr = g.log, g.log, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	injected.Inside(t, s.pod, command.Start)
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("Envoy's output:\n%s", g.log)
		}
	})
	return g
}

// project writes the volume as the kubelet does: all files anew, and then the link to their folder swapped.
func (g *gateway) project(files map[string]string) {
	g.t.Helper()
	volume := filepath.Join(g.folder, "identity")
	current, err := os.MkdirTemp(volume, "..2026_")
	if err != nil {
		g.t.Fatal(err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(current, name), []byte(text), 0o600); err != nil {
			g.t.Fatal(err)
		}
		_ = os.Symlink(filepath.Join("..data", name), filepath.Join(volume, name))
	}
	next := filepath.Join(volume, "..data_tmp")
	if err := os.Symlink(filepath.Base(current), next); err != nil {
		g.t.Fatal(err)
	}
	if err := os.Rename(next, filepath.Join(volume, "..data")); err != nil {
		g.t.Fatal(err)
	}
}

// TestGatewayBootstrapIsProto: a misspelt field would be an error of Envoy in every pod of the gateway.
func TestGatewayBootstrapIsProto(t *testing.T) {
	files := gatewayFiles(t, "/tmp/none", 18000)
	var bootstrap bootstrapv3.Bootstrap
	if err := protojson.Unmarshal([]byte(files["ingress-bootstrap.json"]), &bootstrap); err != nil {
		t.Fatal(err)
	}
	if err := bootstrap.ValidateAll(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"ingress-token-sds.json", "ingress-ca-sds.json"} {
		var file discovery.DiscoveryResponse
		if err := protojson.Unmarshal([]byte(files[name]), &file); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestGatewayFollowsItsAuthority: a control plane that nobody vouches for is not believed, and is once the Secret has its
// authority, without a restart.
func TestGatewayFollowsItsAuthority(t *testing.T) {
	s := newSandbox(t)
	c := newControl(t, s, nil).open()
	another, _ := certificates(t)
	g := startGateway(t, s, c.port, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: another.Raw}))
	eventually(t, "the control plane is refused", func() error {
		if !strings.Contains(g.log.String(), "CERTIFICATE_VERIFY_FAILED") {
			return fmt.Errorf("log:\n%s", g.log)
		}
		return nil
	})
	files := gatewayFiles(t, g.folder, c.port)
	g.project(map[string]string{
		"token": "the-token", "token-sds.json": files["ingress-token-sds.json"], "ca-sds.json": files["ingress-ca-sds.json"],
		"ca.crt": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw})),
	})
	if got := receive(t, c.tokens); got != "Bearer the-token" {
		t.Errorf("it proves itself by %q", got)
	}
	if got := receive(t, c.nodes); got != "traffic-ingress" {
		t.Errorf("it says that it is %q", got)
	}
	eventually(t, "it is ready", func() error {
		status, _, err := get(s.world, "http://"+podIPv4+":8900/ready")
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("status %d", status)
		}
		return err
	})
}

// TestGatewayDrains: traffic-drain finds what it asks Envoy for, each answer says that it is the last of its connection, new
// connections are still taken, and one that is silent holds nothing up.
func TestGatewayDrains(t *testing.T) {
	s := newSandbox(t)
	c := newControl(t, s, gatewayResources(t)).open()
	g := startGateway(t, s, c.port, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.ca.Raw}))
	url := "http://" + podIPv4 + ":8080/"
	eventually(t, "it answers", func() error {
		_, _, err := get(s.world, url)
		return err
	})
	kept := client(s.world)
	kept.Transport.(*http.Transport).DisableKeepAlives = false
	defer kept.CloseIdleConnections()
	ask := func() (ends bool) {
		response, err := kept.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		_, _ = io.Copy(io.Discard, response.Body)
		return response.Close
	}
	if ask() {
		t.Error("a connection ends before the drain")
	}
	d := drain.Drainer{
		Socket: g.socket, StatPrefix: "traffic-ingress", Silent: filepath.Join(g.folder, "silent"),
		Delay: 500 * time.Millisecond, Close: 2 * time.Second, Quiet: time.Minute, Timeout: 2 * time.Minute,
		Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
	if err := d.Prepare(); err != nil {
		t.Fatal(err)
	}
	began, done := time.Now(), make(chan error, 1)
	go func() { done <- d.Run(t.Context()) }()
	// One that says nothing from now on.
	silent := client(s.world)
	silent.Transport.(*http.Transport).DisableKeepAlives = false
	defer silent.CloseIdleConnections()
	if response, err := silent.Get(url); err != nil {
		t.Error(err)
	} else {
		response.Body.Close()
	}
	eventually(t, "the answers end their connections", func() error {
		if !ask() {
			return fmt.Errorf("it stays")
		}
		return nil
	})
	if err := <-done; err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if _, _, err := get(s.world, url); err != nil {
		t.Errorf("load balancers that have not noticed get %v", err)
	}
}

// gatewayResources are those of a gateway without an Ingress: it answers 404.
func gatewayResources(t *testing.T) map[string][]*discovery.Resource {
	t.Helper()
	translator, err := resources.NewTranslator(resources.Config{AccessLog: resources.LogAll})
	if err != nil {
		t.Fatal(err)
	}
	g, err := resources.NewGateway(translator, resources.GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, IPv6: true})
	if err != nil {
		t.Fatal(err)
	}
	m := mesh.New(mesh.Config{})
	update, failures := g.Apply(ingress.New(ingress.Config{}).Flush(time.Now(), m, m.Flush().Services))
	if len(failures) > 0 {
		t.Fatal(failures)
	}
	all := map[string][]*discovery.Resource{}
	for _, r := range update.Set {
		all[r.Type] = append(all[r.Type], &discovery.Resource{Name: r.Name, Version: r.Version, Resource: r.Body})
	}
	return all
}
