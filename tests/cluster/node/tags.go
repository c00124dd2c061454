package node

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// manifest is an image's manifest as it was put into the registry.
type manifest struct {
	Path, ContentType string
	Body              []byte
}

// remember keeps in dir the manifests that are put through the handler, whose
// own memory of them ends with the process, and puts those that are there
// already into it.
func remember(dir string, registry http.Handler) (http.Handler, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, fmt.Errorf("list the registry's tags: %w", err)
	}
	if err := replayAll(files, registry); err != nil {
		return nil, err
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPut || !strings.Contains(r.URL.Path, "/manifests/") {
			registry.ServeHTTP(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		m := manifest{r.URL.Path, r.Header.Get("Content-Type"), body}
		if err := m.write(dir); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		registry.ServeHTTP(w, r)
	}), nil
}

func (m manifest) write(dir string) error {
	content, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode a manifest: %w", err)
	}
	name := filepath.Join(dir, base64.RawURLEncoding.EncodeToString([]byte(m.Path))+".json")
	if err := os.WriteFile(name+".new", content, 0o644); err != nil {
		return fmt.Errorf("keep a manifest: %w", err)
	}
	return os.Rename(name+".new", name)
}

// replayAll puts the manifests in files into the registry, an index after the
// images that it lists. Those that the registry refuses for good are dropped.
func replayAll(files []string, registry http.Handler) error {
	for progress := true; progress; {
		var refused []string
		for _, f := range files {
			taken, err := replay(f, registry)
			if err != nil {
				return err
			}
			if !taken {
				refused = append(refused, f)
			}
		}
		progress = len(refused) < len(files)
		files = refused
	}
	return nil
}

// replay puts the manifest in a file into the registry, which takes it or not.
func replay(file string, registry http.Handler) (taken bool, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return false, fmt.Errorf("read a kept manifest: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(content, &m); err != nil {
		return false, fmt.Errorf("decode the kept manifest %s: %w", file, err)
	}
	request, err := http.NewRequest(http.MethodPut, m.Path, bytes.NewReader(m.Body))
	if err != nil {
		return false, fmt.Errorf("replay the kept manifest %s: %w", file, err)
	}
	request.Header.Set("Content-Type", m.ContentType)
	answer := statusOnly{header: http.Header{}}
	registry.ServeHTTP(&answer, request)
	return answer.code < http.StatusBadRequest, nil
}

// statusOnly is a ResponseWriter that keeps the status code.
type statusOnly struct {
	header http.Header
	code   int
}

func (s *statusOnly) Header() http.Header         { return s.header }
func (s *statusOnly) Write(b []byte) (int, error) { return len(b), nil }
func (s *statusOnly) WriteHeader(code int)        { s.code = code }
