package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"

	"github.com/kubernetes-traffic-manager/traffic/tests/figures"
	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	"github.com/kubernetes-traffic-manager/traffic/webhook/admit"
	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// BenchmarkAdmission prints what an injection costs, as the API server sees it: on a connection that stays, over TLS and HTTP/1.1,
// which is what it asks for, from the first byte of a review to the last of its answer. Client and server are one process on the
// same cores: what the client, TLS and HTTP take of it is printed too, as a handler that answers the same bytes without a look.
// Every answer is compared with the first of its round, whose patch is applied and looked at, outside the clock.
func BenchmarkAdmission(b *testing.B) {
	f := figures.New()
	realistic, err := os.ReadFile("../../webhook/admit/testdata/realistic-pod.json")
	if err != nil {
		b.Fatal(err)
	}
	pods := []struct {
		name    string
		pod     []byte
		reviews int // in each round
		ms, kB  float64
	}{{"realistic pod", realistic, 5000, 0.15, 60}, {"2,000 env", podWithVariables(2000), 500, 2, 0}}
	for _, p := range pods {
		f.Goal(p.name+" p50 ms", p.ms)
		if p.kB > 0 {
			f.Goal(p.name+" kB", p.kB)
		}
	}
	bare := &known{}
	api, alone := dial(b, func(ca *x509.Certificate) http.Handler { return webhook(b, ca) }), dial(b, func(*x509.Certificate) http.Handler { return bare })
	for b.Loop() {
		for range *figures.Rounds {
			for _, p := range pods {
				request := reviewOf(b, p.pod)
				bare.answer = api.round(b, f, p.name, request, p.reviews)
				isInjected(b, p.pod, bare.answer)
				alone.round(b, f, p.name+", without the handler", request, p.reviews)
			}
		}
	}
	f.Print(b)
}

// podWithVariables has that many variables of the usual length.
func podWithVariables(count int) []byte {
	var env strings.Builder
	for i := range count {
		if i > 0 {
			env.WriteByte(',')
		}
		fmt.Fprintf(&env, `{"name":"VARIABLE_%d","value":"the value of a variable that is as long as usual"}`, i)
	}
	return []byte(`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"web"},"spec":{"containers":[{"name":"app","image":"app","env":[` + env.String() + `]}]}}`)
}

// An apiServer is a client of the webhook that does as little as it can.
type apiServer struct {
	conn   *tls.Conn
	answer *bufio.Reader
	body   bytes.Buffer
}

// webhook is the handler with the chart's defaults.
func webhook(b *testing.B, ca *x509.Certificate) http.Handler {
	injector, err := inject.New(chartDefaults(ca))
	if err != nil {
		b.Fatal(err)
	}
	return admit.New(admit.Config{
		Injector: func() *inject.Injector { return injector }, CopyWorkloadLabel: true, Log: nowhereLogged, Metrics: prometheus.NewRegistry(),
	})
}

var nowhereLogged = slog.New(slog.NewJSONHandler(io.Discard, nil))

// A known answer is given to every review that was read.
type known struct{ answer []byte }

func (k *known) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(len(k.answer)))
	_, _ = w.Write(k.answer)
}

// dial serves a handler as the webhook does, until the benchmark ends, and connects to it.
func dial(b *testing.B, handler func(*x509.Certificate) http.Handler) *apiServer {
	dir := b.TempDir()
	ca := injected.Certificate(b, dir)
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		b.Fatal(err)
	}
	server := admit.NewServer(handler(ca), func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &certificate, nil }, nowhereLogged)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l, 0) }()
	roots := x509.NewCertPool()
	roots.AddCert(ca)
	conn, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: roots, ServerName: "localhost", NextProtos: []string{"http/1.1"}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = conn.Close()
		cancel()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	})
	return &apiServer{conn: conn, answer: bufio.NewReaderSize(conn, 64<<10)}
}

// chartDefaults is the sidecar of the chart's values.
func chartDefaults(ca *x509.Certificate) inject.Config {
	amounts := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: quantity.MustParse(cpu), corev1.ResourceMemory: quantity.MustParse(memory)}
	}
	return inject.Config{
		ProxyImage: "registry.example/envoy:v1.40.0", VerifyImage: "registry.example/traffic-verify:0.1.0", ImagePullPolicy: corev1.PullIfNotPresent,
		Verify: true, ProxyUID: 1337, ProxyPort: 10000, StatsPort: 8900, Concurrency: 2, LogLevel: "warning", IPv6: true,
		ProxyResources:  corev1.ResourceRequirements{Requests: amounts("20m", "128Mi"), Limits: amounts("2", "1Gi")},
		VerifyResources: corev1.ResourceRequirements{Requests: amounts("10m", "16Mi"), Limits: amounts("100m", "64Mi")},
		OutboundPolicy:  inject.Block, ControlHost: "traffic-control.traffic-system.svc", ControlPort: 18000, CA: []*x509.Certificate{ca},
	}
}

// reviewOf is the request that asks about a pod.
func reviewOf(b *testing.B, pod []byte) []byte {
	b.Helper()
	review, err := json.Marshal(admissionv1.AdmissionReview{Request: &admissionv1.AdmissionRequest{UID: "42", Operation: admissionv1.Create, Namespace: "shop"}})
	if err != nil {
		b.Fatal(err)
	}
	review = bytes.Replace(review, []byte(`"object":null`), append([]byte(`"object":`), bytes.TrimSpace(pod)...), 1)
	review = bytes.Replace(review, []byte(`{"request"`), []byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request"`), 1)
	return fmt.Appendf(nil, "POST %s?timeout=10s HTTP/1.1\r\nHost: traffic-webhook.traffic-system.svc:443\r\nUser-Agent: kube-apiserver-admission\r\n"+
		"Accept: application/json, */*\r\nContent-Type: application/json\r\nAccept-Encoding: gzip\r\nContent-Length: %d\r\n\r\n%s", admit.InjectPath, len(review), review)
}

// round sends a request that often, after a tenth of it to warm up, and returns the answer, which is always the same.
func (a *apiServer) round(b *testing.B, f *figures.Table, name string, request []byte, requests int) []byte {
	for range requests / 10 {
		a.ask(b, request)
	}
	first := bytes.Clone(a.ask(b, request))
	times := make([]time.Duration, requests)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for n := range times {
		begin := time.Now()
		answer := a.ask(b, request)
		times[n] = time.Since(begin)
		if !bytes.Equal(answer, first) {
			b.Fatalf("answer %d is %s\nand not %s", n, answer, first)
		}
	}
	runtime.ReadMemStats(&after)
	f.Times(name, times)
	f.Add(name+" kB", float64(after.TotalAlloc-before.TotalAlloc)/float64(requests)/1000)
	f.Add(name+" allocations", float64(after.Mallocs-before.Mallocs)/float64(requests))
	return first
}

// ask sends a request, and returns the answer, which the next one overwrites.
func (a *apiServer) ask(b *testing.B, request []byte) []byte {
	if _, err := a.conn.Write(request); err != nil {
		b.Fatal(err)
	}
	response, err := http.ReadResponse(a.answer, nil)
	if err != nil {
		b.Fatal(err)
	}
	a.body.Reset()
	if _, err := a.body.ReadFrom(response.Body); err != nil || response.StatusCode != http.StatusOK {
		b.Fatalf("status %d, %v: %s", response.StatusCode, err, a.body.Bytes())
	}
	return a.body.Bytes()
}

// isInjected fails unless the answer's patch puts our containers in front, and leaves those of the pod as they were.
func isInjected(b *testing.B, pod, answer []byte) {
	b.Helper()
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(answer, &review); err != nil || review.Response == nil || !review.Response.Allowed {
		b.Fatalf("%v: %s", err, answer)
	}
	patch, err := jsonpatch.DecodePatch(review.Response.Patch)
	if err != nil {
		b.Fatal(err)
	}
	patched, err := patch.Apply(pod)
	if err != nil {
		b.Fatal(err)
	}
	var before, after corev1.Pod
	if err := json.Unmarshal(pod, &before); err != nil {
		b.Fatal(err)
	}
	if err := json.Unmarshal(patched, &after); err != nil {
		b.Fatal(err)
	}
	ours := after.Spec.InitContainers[:2]
	if ours[0].Name != inject.ProxyContainer || ours[1].Name != inject.VerifyContainer {
		b.Fatalf("in front are %s and %s", ours[0].Name, ours[1].Name)
	}
	after.Spec.InitContainers = append([]corev1.Container(nil), after.Spec.InitContainers[2:]...)
	after.Spec.Volumes = after.Spec.Volumes[:len(before.Spec.Volumes)]
	if len(before.Spec.Volumes) == 0 {
		after.Spec.Volumes = nil
	}
	if diff := cmp.Diff(before.Spec, after.Spec); diff != "" {
		b.Fatalf("the rest is not as it was:\n%s", diff)
	}
}
