package admit

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
)

// call sends a body to a handler and returns its answer, or the HTTP status that is not 200.
func call(t testing.TB, h http.Handler, path, body string) (*admissionv1.AdmissionResponse, int) {
	t.Helper()
	request := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	request.Header.Set("Content-Type", "application/json")
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, request)
	if recorder.Code != http.StatusOK {
		return nil, recorder.Code
	}
	var answer admissionv1.AdmissionReview
	if err := json.Unmarshal(recorder.Body.Bytes(), &answer); err != nil || answer.Response == nil {
		t.Fatalf("%s: no review: %v: %s", path, err, recorder.Body)
	}
	return answer.Response, http.StatusOK
}

func newHandler(t testing.TB) (http.Handler, *prometheus.Registry) {
	t.Helper()
	metrics, i := prometheus.NewRegistry(), injector(t)
	return New(Config{Injector: func() *inject.Injector { return i }, CopyWorkloadLabel: true, Log: quiet, Metrics: metrics}), metrics
}

// TestNonsense: what cannot be understood is no answer, so that the API server does what each entry's failure policy says.
func TestNonsense(t *testing.T) {
	h, _ := newHandler(t)
	for path, objects := range map[string][]string{
		InjectPath:   {`{}`, `null`, `[]`, `{"metadata":{"labels":7},"spec":{}}`},
		WorkloadPath: {`{}`, `null`, `[]`, `{"spec":{"template":[]}}`},
		WarnPath:     {`[]`, `{"metadata":{"labels":7}}`},
	} {
		for _, object := range objects {
			if answer, code := call(t, h, path, string(reviewOf(t, "Deployment", object))); code != http.StatusBadRequest {
				t.Errorf("%s %s: %d %+v", path, object, code, answer)
			}
		}
	}
	for body, want := range map[string]int{
		``: 400, `{`: 400, `[]`: 400, `{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`: 400,
		`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1","request":{}}`: 400, strings.Repeat(" ", maxBody+1): 413,
	} {
		if answer, code := call(t, h, InjectPath, body); code != want {
			t.Errorf("%.60q: %d %+v, want %d", body, code, answer, want)
		}
	}
	request := httptest.NewRequest(http.MethodPost, InjectPath, strings.NewReader(string(reviewOf(t, "Pod", smallPod))))
	recorder := httptest.NewRecorder()
	if h.ServeHTTP(recorder, request); recorder.Code != http.StatusUnsupportedMediaType {
		t.Errorf("without a content type: %d", recorder.Code)
	}
}

// TestPanic: a bug of ours fails its request, not the process.
func TestPanic(t *testing.T) {
	h := New(Config{Injector: func() *inject.Injector { return nil }, Log: quiet, Metrics: prometheus.NewRegistry()})
	if answer, code := call(t, h, InjectPath, string(reviewOf(t, "Pod", smallPod))); code != http.StatusInternalServerError {
		t.Errorf("%d %+v, want 500", code, answer)
	}
}

// TestMetrics: every request is counted by what became of it.
func TestMetrics(t *testing.T) {
	h, metrics := newHandler(t)
	call(t, h, InjectPath, string(reviewOf(t, "Pod", smallPod)))
	call(t, h, InjectPath, string(reviewOf(t, "Pod", strings.Replace(smallPod, `"spec":{`, `"spec":{"hostNetwork":true,`, 1))))
	call(t, h, InjectPath, string(reviewOf(t, "Pod", `{}`)))
	call(t, h, InjectPath, `{`)
	call(t, h, WarnPath, string(reviewOf(t, "Pod", smallPod)))
	const want = `
		# HELP traffic_webhook_admissions_total Requests of the API server by path and by what became of them.
		# TYPE traffic_webhook_admissions_total counter
		traffic_webhook_admissions_total{path="/inject",result="error"} 2
		traffic_webhook_admissions_total{path="/inject",result="host-network"} 1
		traffic_webhook_admissions_total{path="/inject",result="injected"} 1
		traffic_webhook_admissions_total{path="/warn",result="error"} 0
		traffic_webhook_admissions_total{path="/warn",result="silent"} 1
		traffic_webhook_admissions_total{path="/workload",result="error"} 0
	`
	if err := testutil.GatherAndCompare(metrics, strings.NewReader(want), "traffic_webhook_admissions_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(metrics, "traffic_webhook_admission_seconds"); err != nil || n != 3 {
		t.Errorf("durations of %d paths, %v", n, err)
	}
}

// FuzzReview: whatever comes over HTTP is answered with a review, and only warnings let nonsense pass.
func FuzzReview(f *testing.F) {
	f.Add(reviewOf(f, "Pod", smallPod))
	f.Add(reviewOf(f, "Deployment", `{"metadata":{"labels":{"traffic.envoy.enabled":"true"}},"spec":{"template":{"spec":{}}}}`))
	f.Add(reviewOf(f, "CronJob", `{"metadata":{"labels":{"traffic.envoy.enabled":"x"}},"spec":{"jobTemplate":{"spec":{"template":{"metadata":{"labels":null}}}}}}`))
	f.Add(reviewOf(f, "Service", `{"metadata":{"labels":{"traffic.port.80":"htp"}},"spec":{"ports":[{"port":-1}]}}`))
	f.Add([]byte(`{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}`))
	h, _ := newHandler(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{InjectPath, WorkloadPath, WarnPath} {
			answer, code := call(t, h, path, string(body))
			switch {
			case code == http.StatusInternalServerError:
				t.Errorf("%s: panic", path)
			case code == http.StatusOK && !answer.Allowed && answer.Result.Message == "":
				t.Errorf("%s: refused without a word", path)
			case code == http.StatusOK && path != InjectPath && !answer.Allowed:
				t.Errorf("%s: refused: %s", path, answer.Result.Message)
			}
		}
	})
}

// realisticPod has 3 containers, 20 variables and 10 volumes, as the API server sends it.
func realisticPod(t testing.TB) string {
	t.Helper()
	raw, err := os.ReadFile("testdata/realistic-pod.json")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// BenchmarkInject is the whole handler: from the bytes of a review to the bytes of its answer.
func BenchmarkInject(b *testing.B) {
	benchmark(b, realisticPod(b))
}

// BenchmarkInjectLarge is the same for a pod with 2,000 environment variables.
func BenchmarkInjectLarge(b *testing.B) {
	var env strings.Builder
	for i := range 2000 {
		if i > 0 {
			env.WriteByte(',')
		}
		env.WriteString(`{"name":"VARIABLE_` + strings.Repeat("X", i%20) + `","value":"the value of a variable that is as long as usual"}`)
	}
	benchmark(b, strings.Replace(smallPod, `"image"`, `"env":[`+env.String()+`],"image"`, 1))
}

func benchmark(b *testing.B, pod string) {
	h, _ := newHandler(b)
	body := string(reviewOf(b, "Pod", pod))
	answer, code := call(b, h, InjectPath, body)
	if code != http.StatusOK || !answer.Allowed {
		b.Fatalf("not injected: %d %+v", code, answer)
	}
	operations, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		b.Fatal(err)
	}
	after, err := operations.Apply([]byte(pod))
	if err != nil || !strings.Contains(string(after), inject.ProxyContainer) {
		b.Fatalf("not injected: %v", err)
	}
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		request := httptest.NewRequest(http.MethodPost, InjectPath, strings.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(discard{}, request)
	}
}

// discard is a response that nobody reads.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

// TestManyAtOnce: buffers are used again, and each answer is about its own pod.
func TestManyAtOnce(t *testing.T) {
	h, _ := newHandler(t)
	var callers sync.WaitGroup
	for n := range 8 {
		callers.Go(func() {
			name := fmt.Sprintf("caller-%d", n)
			pod := strings.Replace(smallPod, `"name":"web"`, `"name":"`+name+`"`, 1)
			if n%2 == 0 { // bodies of different lengths
				pod = strings.Replace(pod, `"image"`, `"env":[`+strings.Repeat(`{"name":"X","value":"x"},`, 100*n)+`{"name":"Y"}],"image"`, 1)
			}
			for range 50 {
				answer, code := call(t, h, InjectPath, string(reviewOf(t, "Pod", pod)))
				if code != http.StatusOK || !strings.Contains(string(answer.Patch), `"`+name+`"`) {
					t.Errorf("%s got %d %+v", name, code, answer)
					return
				}
			}
		})
	}
	callers.Wait()
}

// gone is a client that resets its stream while the answer is on its way: what is being written is still read after Write has returned.
type gone struct {
	discard
	written []byte
}

func (g *gone) Write(p []byte) (int, error) {
	g.written = p
	return 0, io.ErrClosedPipe
}

// TestAnswerStaysTheClients: whoever goes away in the midst of an answer does not read in it what another is answered.
func TestAnswerStaysTheClients(t *testing.T) {
	h, _ := newHandler(t)
	request := httptest.NewRequest(http.MethodPost, InjectPath, strings.NewReader(string(reviewOf(t, "Pod", smallPod))))
	request.Header.Set("Content-Type", "application/json")
	var g gone
	h.ServeHTTP(&g, request)
	before := string(g.written)
	for range 10 {
		call(t, h, InjectPath, string(reviewOf(t, "Pod", strings.Replace(smallPod, `"web"`, `"secret"`, 1))))
	}
	if before == "" || string(g.written) != before {
		t.Errorf("it was %.100s, and is %.100s", before, g.written)
	}
}
