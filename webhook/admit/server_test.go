package admit

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

const soon = 20 * time.Second

// A mount is a Secret's volume: files are links through ..data, which is swapped in one step.
type mount struct {
	dir string
	n   int
}

func (m *mount) write(t *testing.T, files map[string][]byte) {
	t.Helper()
	m.n++
	current := fmt.Sprintf("..%d", m.n)
	if err := os.Mkdir(filepath.Join(m.dir, current), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(m.dir, current, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Symlink(filepath.Join("..data", name), filepath.Join(m.dir, name))
	}
	if err := os.Symlink(current, filepath.Join(m.dir, "..tmp")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(m.dir, "..tmp"), filepath.Join(m.dir, "..data")); err != nil {
		t.Fatal(err)
	}
	if m.n > 1 {
		if err := os.RemoveAll(filepath.Join(m.dir, fmt.Sprintf("..%d", m.n-1))); err != nil {
			t.Fatal(err)
		}
	}
}

// secret is what cert-manager writes: a certificate of that serial number for the webhook, and its CA, which is itself.
func secret(t *testing.T, serial int64, validFor time.Duration) map[string][]byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "webhook"}, DNSNames: []string{"traffic-webhook"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(validFor), IsCA: true, BasicConstraintsValid: true,
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
	return map[string][]byte{
		"tls.crt": certificate, "ca.crt": certificate,
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}
}

// serving is a webhook as the command makes it, on loopback.
type serving struct {
	*Server
	secret  *Secret
	address string
	stop    context.CancelFunc
	done    chan error
}

func serve(t *testing.T, m *mount, drain time.Duration) *serving {
	t.Helper()
	file := func(name string) string { return filepath.Join(m.dir, name) }
	secret, err := LoadSecret(Files{file("tls.crt"), file("tls.key"), []string{file("ca.crt")}}, sidecar(), quiet)
	if err != nil {
		t.Fatal(err)
	}
	handler := New(Config{Injector: secret.Injector, CopyWorkloadLabel: true, Log: quiet, Metrics: prometheus.NewRegistry()})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	s := &serving{NewServer(handler, secret.GetCertificate, quiet), secret, l.Addr().String(), stop, make(chan error, 1)}
	go secret.Watch(ctx, 20*time.Millisecond)
	go func() { s.done <- s.Serve(ctx, l, drain) }()
	t.Cleanup(stop)
	return s
}

// post sends a review over a new connection and returns the answer and the serial number of the server's certificate.
func (s *serving) post(t *testing.T, path string, review []byte) (*admissionv1.AdmissionResponse, int64, error) {
	t.Helper()
	client := &http.Client{Timeout: soon, Transport: &http.Transport{
		DisableKeepAlives: true, ForceAttemptHTTP2: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // the test looks at the certificate itself
	}}
	res, err := client.Post("https://"+s.address+path, "application/json", bytes.NewReader(review))
	if err != nil {
		return nil, 0, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, 0, fmt.Errorf("status %d", res.StatusCode)
	}
	var answer admissionv1.AdmissionReview
	if err := json.NewDecoder(res.Body).Decode(&answer); err != nil {
		return nil, 0, err
	}
	return answer.Response, res.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
}

// reviewOf is the request of the API server for the creation of an object.
func reviewOf(t testing.TB, kind, object string) []byte {
	t.Helper()
	raw, err := json.Marshal(map[string]any{
		"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
		"request": map[string]any{
			"uid": "42", "operation": "CREATE", "namespace": "shop", "kind": map[string]string{"version": "v1", "kind": kind},
			"object": json.RawMessage(object),
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

const smallPod = `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"app","image":"app"}]}}`

// TestHTTPS: a pod goes in and a patch comes out, over TLS.
func TestHTTPS(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	m.write(t, secret(t, 1, time.Hour))
	s := serve(t, m, 0)
	answer, _, err := s.post(t, InjectPath, reviewOf(t, "Pod", smallPod))
	if err != nil || !answer.Allowed || answer.UID != "42" || *answer.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("%+v, %v", answer, err)
	}
	if !strings.Contains(string(answer.Patch), inject.ProxyContainer) {
		t.Errorf("no sidecar in %s", answer.Patch)
	}
	answer, _, err = s.post(t, InjectPath, reviewOf(t, "Pod", strings.Replace(smallPod, `"image"`, `"securityContext":{"runAsUser":1337},"image"`, 1)))
	if err != nil || answer.Allowed || !strings.Contains(answer.Result.Message, "1337") {
		t.Errorf("a clash: %+v, %v; want a refusal that names it", answer, err)
	}
}

// TestRenewal: certificate and CA are renewed in the mounted Secret; the next handshake uses the one, the next pod is given
// the other. What is not valid is never taken.
func TestRenewal(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	first, second := secret(t, 1, time.Hour), secret(t, 2, time.Hour)
	m.write(t, first)
	s := serve(t, m, 0)
	expect := func(serial int64, ca []byte) {
		t.Helper()
		var got string
		for deadline := time.Now().Add(soon); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
			answer, n, err := s.post(t, InjectPath, reviewOf(t, "Pod", smallPod))
			if err != nil {
				t.Fatal(err)
			}
			// The CA is in a JSON string in a JSON string.
			line := strings.Split(string(ca), "\n")[1]
			if n == serial && strings.Contains(string(answer.Patch), line) {
				return
			}
			got = fmt.Sprint(n)
		}
		t.Fatalf("not soon: certificate %s or another CA, want %d and its own", got, serial)
	}
	expect(1, first["ca.crt"])
	m.write(t, second)
	expect(2, second["ca.crt"])
	m.write(t, map[string][]byte{"tls.crt": []byte("x"), "tls.key": []byte("x"), "ca.crt": []byte("x")})
	expect(2, second["ca.crt"])
	third := secret(t, 3, time.Hour)
	m.write(t, third)
	expect(3, third["ca.crt"])
}

// TestReadiness: a webhook that the API server would not trust, or whose pods would not trust the control plane, says so.
func TestReadiness(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	files := secret(t, 1, time.Hour)
	m.write(t, files)
	s := serve(t, m, 0)
	if err := s.secret.Check(time.Now()); err != nil {
		t.Error(err)
	}
	if err := s.secret.Check(time.Now().Add(2 * time.Hour)); err == nil || !strings.Contains(err.Error(), "serving certificate") {
		t.Errorf("with an expired certificate: %v", err)
	}
	files["ca.crt"] = secret(t, 2, time.Minute)["ca.crt"]
	short := &mount{dir: t.TempDir()}
	short.write(t, files)
	s = serve(t, short, 0)
	if err := s.secret.Check(time.Now().Add(30 * time.Minute)); err == nil || !strings.Contains(err.Error(), "CA for sidecars") {
		t.Errorf("with an expired CA: %v", err)
	}
}

// TestDrain: after the stop it is not ready at once, but answers until the API server has noticed, and then ends.
func TestDrain(t *testing.T) {
	m := &mount{dir: t.TempDir()}
	m.write(t, secret(t, 1, time.Hour))
	s := serve(t, m, 500*time.Millisecond)
	if _, _, err := s.post(t, InjectPath, reviewOf(t, "Pod", smallPod)); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	s.stop()
	<-s.draining
	if err := s.Check(time.Now()); err == nil {
		t.Error("ready while it stops")
	}
	if _, _, err := s.post(t, InjectPath, reviewOf(t, "Pod", smallPod)); err != nil {
		t.Errorf("a pod that was created while it drained failed: %v", err)
	}
	select {
	case err := <-s.done:
		if err != nil || time.Since(start) < 500*time.Millisecond {
			t.Errorf("ended after %s with %v", time.Since(start), err)
		}
	case <-time.After(soon):
		t.Error("does not end")
	}
}

// TestBadCA: what is not a certificate must not become the trust of pods.
func TestBadCA(t *testing.T) {
	good := secret(t, 1, time.Hour)
	for name, text := range map[string][]byte{
		"empty": nil, "text": []byte("hello"), "key": good["tls.key"], "text after": append(bytes.Clone(good["ca.crt"]), "hello"...),
		"truncated": good["ca.crt"][:100],
	} {
		if found, err := parseCA(text); err == nil {
			t.Errorf("%s: %d certificates", name, len(found))
		}
	}
	two := append(bytes.Clone(good["ca.crt"]), secret(t, 2, time.Hour)["ca.crt"]...)
	if found, err := parseCA(two); err != nil || len(found) != 2 {
		t.Errorf("two CAs: %d, %v", len(found), err)
	}
}
