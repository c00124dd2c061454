package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"flag"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/redirect"
	"github.com/kubernetes-traffic-manager/traffic/webhook/admit"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// TestFlags: what is written on the command line is what pods get.
func TestFlags(t *testing.T) {
	c, err := parseFlags([]string{
		"--namespace=traffic-system", "--proxy-image=envoy", "--verify-image=verify", "--image-pull-policy=Always",
		"--pull-secrets=mirror,company", "--control-port=18001", "--proxy-port=10001", "--proxy-stats-port=8901", "--proxy-uid=1400", "--proxy-concurrency=3",
		"--proxy-log-level=debug", "--proxy-requests=cpu=1,memory=2Gi", "--proxy-limits=", "--verify=false", "--proxy-ipv6=false",
		"--verify-requests=cpu=1m", "--verify-limits=memory=8Mi", "--outbound-default-policy=passthrough",
		"--exclude-cidrs=10.0.0.0/8,fd00::1", "--exclude-ports=25,9000-9100", "--copy-workload-label=false", "--tls-dir=/tls",
		"--extra-ca-file=/extra/ca.crt", "--listen=:1", "--status-listen=:2", "--drain-delay=1s", "--log-level=debug",
	}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	list := func(name, amount string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceName(name): resource.MustParse(amount)}
	}
	want := config{
		sidecar: inject.Config{
			ProxyImage: "envoy", VerifyImage: "verify", ImagePullPolicy: corev1.PullAlways, PullSecrets: []string{"mirror", "company"},
			ProxyUID: 1400, ProxyPort: 10001, StatsPort: 8901, Concurrency: 3, LogLevel: "debug",
			ProxyResources: corev1.ResourceRequirements{
				Requests: corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("2Gi")}, Limits: corev1.ResourceList{},
			},
			VerifyResources: corev1.ResourceRequirements{Requests: list("cpu", "1m"), Limits: list("memory", "8Mi")},
			OutboundPolicy:  inject.Passthrough,
			ExcludeCIDRs:    []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::1/128")},
			ExcludePorts:    []redirect.PortRange{{From: 25, To: 25}, {From: 9000, To: 9100}},
			ControlHost:     "traffic-control.traffic-system.svc", ControlPort: 18001,
		},
		files:  admit.Files{Certificate: "/tls/tls.crt", Key: "/tls/tls.key", CA: []string{"/tls/ca.crt", "/extra/ca.crt"}},
		listen: ":1", status: ":2", drainDelay: time.Second, logLevel: slog.LevelDebug,
	}
	if diff := cmp.Diff(want, c, cmp.AllowUnexported(config{}), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

// TestBadFlags: a slip in the command line must stop the start.
func TestBadFlags(t *testing.T) {
	for _, args := range []string{
		"", "--namespace=x extra", "--namespace=x --unknown", "--namespace=x --proxy-port=70000", "--namespace=x --proxy-uid=-1",
		"--namespace=x --proxy-port=0x10", "--namespace=x --image-pull-policy=always", "--namespace=x --outbound-default-policy=open",
		"--namespace=x --exclude-cidrs=10.0.0.1/8", "--namespace=x --exclude-ports=http", "--namespace=x --proxy-requests=cpu",
		"--namespace=x --proxy-requests=cpu=-1", "--namespace=x --proxy-requests=cpu=much", "--namespace=x --log-level=loud",
	} {
		var out bytes.Buffer
		if code := run(strings.Fields(args), &out); code != 2 || out.Len() == 0 {
			t.Errorf("%q: exit %d, %q; want 2 and a reason", args, code, &out)
		}
	}
}

// TestREADME: the table of flags names every flag with its default, and no other.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`--[^|]*) \\|([^|]*)\\|").FindAllStringSubmatch(string(text), -1) {
		names := strings.Split(row[1], ", ")
		defaults := strings.Split(row[2], ", ")
		for i, name := range names {
			standard := ""
			if len(defaults) == len(names) {
				standard = strings.Trim(defaults[i], "` ")
			}
			documented[strings.Trim(name, "`-")] = standard
		}
	}
	actual := map[string]string{}
	flags, _ := newFlags(io.Discard)
	flags.VisitAll(func(f *flag.Flag) { actual[f.Name] = strings.ToLower(f.DefValue) })
	for name, standard := range documented {
		documented[name] = strings.ToLower(standard)
	}
	if diff := cmp.Diff(actual, documented); diff != "" {
		t.Errorf("flags (-), README (+):\n%s", diff)
	}
}

// TestRun: the program serves reviews and its status, ends on SIGTERM without a trace, and says what is wrong when it cannot
// start.
func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t)
	dir := t.TempDir()
	args := []string{"--namespace=x", "--proxy-image=envoy", "--verify-image=verify", "--tls-dir=" + dir, "--listen=127.0.0.1:0", "--status-listen=127.0.0.1:0", "--drain-delay=10ms"}
	var out bytes.Buffer
	if code := run(args, &out); code != 1 || !strings.Contains(out.String(), "tls.crt") {
		t.Errorf("without certificates: exit %d, %s", code, &out)
	}
	writeSecret(t, dir)
	reader, writer := io.Pipe()
	exit := make(chan int, 1)
	go func() {
		exit <- run(args, writer)
		writer.Close()
	}()
	addresses := make(chan [2]string, 1)
	go func() {
		decoder := json.NewDecoder(reader)
		for {
			var line struct{ Msg, Reviews, Status string }
			if decoder.Decode(&line) != nil {
				return
			}
			if line.Msg == "serves" {
				addresses <- [2]string{line.Reviews, line.Status}
			}
		}
	}()
	var at [2]string
	select {
	case at = <-addresses:
	case <-time.After(20 * time.Second):
		t.Fatal("does not serve")
	}
	for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/metrics": "traffic_webhook_certificate_expiration_timestamp_seconds"} {
		if status, body := get(t, "http://"+at[1]+path); status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, _ := get(t, "https://"+at[0]+"/inject"); status != http.StatusMethodNotAllowed {
		t.Errorf("GET /inject: %d", status)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case code := <-exit:
		if code != 0 {
			t.Errorf("exit %d after SIGTERM", code)
		}
	case <-time.After(20 * time.Second):
		t.Error("does not end on SIGTERM")
	}
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	res, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

func writeSecret(t *testing.T, dir string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "webhook"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw})
	for name, content := range map[string][]byte{
		"tls.crt": certificate, "ca.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
