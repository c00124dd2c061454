package admit

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

// allocated is how many bytes do takes, all together.
func allocated(do func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	do()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// repeated is n texts with the numbers from 10000 on in place of %d, separated by commas.
func repeated(n int, format string) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, format, 10000+i)
	}
	return b.String()
}

// annotated is an object of a kind, or the pod template of one, with an annotation.
func annotated(kind, key, value string) string {
	pod := fmt.Sprintf(`{"metadata":{"name":"web","annotations":{%q:%q}},"spec":{"containers":[{"name":"app"}]}}`, key, value)
	if kind == "Pod" {
		return pod
	}
	return `{"metadata":{"name":"web"},"spec":{"template":` + pod + `}}`
}

// TestHugeReviews: whoever may write an object of 3 MiB, which is what the API server takes, must not take the webhook away, and with it every
// injected pod that is to start: its container has 256 MiB.
func TestHugeReviews(t *testing.T) {
	h, _ := newHandler(t)
	list := func(item string) string { return strings.Repeat(item+",", 3<<20/(len(item)+1)) }
	const ports = 3000
	shut := `"labels":{` + repeated(ports, `"traffic.port.%d":"http"`) + `}`
	unknown := func(value string) string {
		return `{"metadata":{"name":"web","labels":{` + repeated(20_000, `"traffic.%d":"`+value+`"`) + `}},"spec":{"containers":[{"name":"app"}]}}`
	}
	for name, review := range map[string]struct{ path, kind, old, object string }{
		"exclusions of a pod":        {InjectPath, "Pod", "", annotated("Pod", "traffic.envoy.exclude-ports", list("x"))},
		"good exclusions of a pod":   {InjectPath, "Pod", "", annotated("Pod", "traffic.envoy.exclude-cidrs", list("::"))},
		"exclusions of a template":   {WarnPath, "Deployment", "", annotated("Deployment", "traffic.envoy.exclude-ports", list("x"))},
		"labels of a pod":            {InjectPath, "Pod", "", unknown("x")},
		"unknown labels that change": {WarnPath, "Pod", unknown("x"), unknown("y")},
		"ports of a Service": {WarnPath, "Service", "", `{"metadata":{"name":"web",` + shut + `},"spec":{"ports":[` +
			strings.ReplaceAll(repeated(ports, `{"port":%d}`), ":1", ":2") + `]}}`},
		"ports of a pod": {WarnPath, "Pod", "", `{"metadata":{"name":"web",` + shut + `},"spec":{"containers":[{"ports":[` +
			strings.ReplaceAll(repeated(ports, `{"containerPort":%d}`), ":1", ":2") + `]}]}}`},
	} {
		t.Run(name, func(t *testing.T) {
			body := string(reviewOf(t, review.kind, review.object))
			if review.old != "" {
				body = strings.NewReplacer(`"operation":"CREATE"`, `"operation":"UPDATE"`, `"object":`, `"oldObject":`+review.old+`,"object":`).Replace(body)
			}
			if took := allocated(func() {
				if answer, code := call(t, h, review.path, body); code != http.StatusOK || len(answer.Warnings) == 0 && review.path == WarnPath {
					t.Errorf("%d %+v", code, answer)
				}
			}); took > 64<<20 {
				t.Errorf("a review of %d kB took %d MB", len(body)>>10, took>>20)
			}
		})
	}
}

// TestAnnouncedBody: what a client says that it will send takes no memory before it is sent.
func TestAnnouncedBody(t *testing.T) {
	h, _ := newHandler(t)
	const clients = 32
	if took := allocated(func() {
		for range clients {
			request := httptest.NewRequest(http.MethodPost, InjectPath, io.NopCloser(iotest.ErrReader(errors.New("it went away"))))
			request.Header.Set("Content-Type", "application/json")
			request.ContentLength = maxBody
			h.ServeHTTP(httptest.NewRecorder(), request)
		}
	}); took > clients<<20 {
		t.Errorf("%d clients that sent nothing took %d MB", clients, took>>20)
	}
}
