package admit

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/kubernetes-traffic-manager/traffic/webhook/inject"
	"github.com/kubernetes-traffic-manager/traffic/webhook/patch"
)

// maxBody bounds a review. An object is at most 1.5 MiB in etcd, and 3 MiB as a request; an update has two.
const maxBody = 7 << 20

// A review is what is read of an AdmissionReview whose objects are of that type, in one pass: to look for the end of an object
// first was a tenth of what a review takes.
type review[T any] struct {
	APIVersion string      `json:"apiVersion"`
	Kind       string      `json:"kind"`
	Request    *request[T] `json:"request"`
}

// A request is what is read of an AdmissionRequest.
type request[T any] struct {
	UID       types.UID               `json:"uid"`
	Kind      metav1.GroupVersionKind `json:"kind"`
	Operation admissionv1.Operation   `json:"operation"`
	Namespace string                  `json:"namespace"`
	Object    T                       `json:"object"`
	OldObject T                       `json:"oldObject"`
}

// buffers hold bodies and answers. One that had to grow beyond maxKept is not kept for the next.
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

const maxKept = 256 << 10

func release(b *bytes.Buffer) {
	if b.Cap() <= maxKept {
		b.Reset()
		buffers.Put(b)
	}
}

// An answer is what a path makes of a request.
type answer struct {
	// result is one word for the metrics.
	result string
	// refusal says why the object must not be written; empty when it may.
	refusal  string
	patch    []patch.Operation
	warnings []string
}

// An httpError is an answer that is no review. The API server then does what the entry's failure policy says: a pod or
// workload is not written, and an object that is only warned about is.
type httpError struct {
	code int
	err  error
}

func (e httpError) Error() string { return e.err.Error() }

// reviewed is a path: it decodes reviews, and encodes what handle makes of them. A panic is answered like any other error.
func reviewed[T any](handle func(*request[T]) (answer, error), m pathMetrics, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		result := "error"
		defer m.observe(&result)()
		defer func() {
			if reason := recover(); reason != nil {
				log.Error("panic", "path", r.URL.Path, "reason", reason, "stack", string(debug.Stack()))
				http.Error(w, "internal error; see the webhook's log", http.StatusInternalServerError)
			}
		}()
		response, err := respond(r, handle, &result)
		if err != nil {
			log.Error("cannot answer a review", "path", r.URL.Path, "error", err)
			code := http.StatusBadRequest
			if h := (httpError{}); errors.As(err, &h) {
				code = h.code
			}
			http.Error(w, err.Error(), code)
			return
		}
		if err := reply(w, response); err != nil {
			log.Debug("the API server did not wait for the answer", "path", r.URL.Path, "error", err)
		}
	})
}

// reply sends a review as a whole, so that it is not cut into chunks.
func reply(w http.ResponseWriter, review *bytes.Buffer) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Content-Length", strconv.Itoa(review.Len()))
	if _, err := w.Write(review.Bytes()); err != nil { //nolint:gosec // it is JSON, and says so
		return err // and HTTP/2 may be writing it still, for a stream that is reset: it must not become another's answer
	}
	release(review)
	return nil
}

// respond is the way from a request to its response.
func respond[T any](r *http.Request, handle func(*request[T]) (answer, error), result *string) (*bytes.Buffer, error) {
	req, err := readReview[T](r)
	if err != nil {
		return nil, err
	}
	a, err := handle(req)
	if err != nil {
		return nil, err
	}
	review, err := a.review(req.UID)
	if err == nil {
		*result = a.result
	}
	return review, err
}

func readReview[T any](r *http.Request) (*request[T], error) {
	if kind := r.Header.Get("Content-Type"); kind != "application/json" {
		return nil, httpError{http.StatusUnsupportedMediaType, fmt.Errorf("content type %q: must be application/json", kind)}
	}
	body := buffers.Get().(*bytes.Buffer)
	defer release(body)
	if r.ContentLength > 0 {
		body.Grow(int(min(r.ContentLength, maxKept-bytes.MinRead)) + bytes.MinRead) // of more only what does come takes memory
	}
	if _, err := body.ReadFrom(http.MaxBytesReader(nil, r.Body, maxBody)); err != nil {
		var tooLarge *http.MaxBytesError
		if errors.As(err, &tooLarge) {
			return nil, httpError{http.StatusRequestEntityTooLarge, fmt.Errorf("review: more than %d bytes", maxBody)}
		}
		return nil, fmt.Errorf("read review: %w", err)
	}
	var v review[T]
	if err := json.Unmarshal(body.Bytes(), &v, inject.Decoding); err != nil {
		return nil, fmt.Errorf("decode review: %w", err)
	}
	if v.APIVersion != admissionv1.SchemeGroupVersion.String() || v.Kind != "AdmissionReview" || v.Request == nil {
		return nil, fmt.Errorf("decode review: %s %s: must be an AdmissionReview of %s with a request", v.APIVersion, v.Kind, admissionv1.SchemeGroupVersion)
	}
	return v.Request, nil
}

// review is the answer to the request of that UID, as JSON.
func (a answer) review(uid types.UID) (*bytes.Buffer, error) {
	response := &admissionv1.AdmissionResponse{UID: uid, Allowed: a.refusal == "", Warnings: a.warnings}
	if a.refusal != "" {
		response.Result = &metav1.Status{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: a.refusal}
	}
	if len(a.patch) > 0 {
		scratch := buffers.Get().(*bytes.Buffer)
		defer release(scratch)
		text, err := patch.Append(scratch.AvailableBuffer(), a.patch)
		if err != nil {
			return nil, err
		}
		scratch.Write(text) // in its place, or to have room for the next
		response.Patch, response.PatchType = scratch.Bytes(), new(admissionv1.PatchTypeJSONPatch)
	}
	review := buffers.Get().(*bytes.Buffer)
	err := stdjson.NewEncoder(review).Encode(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
		Response: response,
	})
	if err != nil {
		return nil, fmt.Errorf("encode review: %w", err)
	}
	return review, nil
}
