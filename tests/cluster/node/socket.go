package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"
)

// serve answers the supervisor's socket until ctx ends.
func (s *Supervisor) serve(ctx context.Context) error {
	path := s.plan.Socket()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove the old socket: %w", err)
	}
	short, dir, err := ShortPath(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	listener, err := net.Listen("unix", short)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", path, err)
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve %s: %w", path, err)
	}
	return nil
}

// ShortPath names a socket through its open directory, since a socket's path
// may have no more than 107 bytes. The name is good while the directory is open.
func ShortPath(path string) (string, *os.File, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return "", nil, fmt.Errorf("open the directory of %s: %w", path, err)
	}
	return fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), filepath.Base(path)), dir, nil
}

func (s *Supervisor) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /components", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(s.Statuses())
	})
	mux.HandleFunc("POST /components/{name}/stop", s.act(s.Stop))
	mux.HandleFunc("POST /components/{name}/start", s.act(s.Start))
	mux.HandleFunc("POST /components/{name}/restart", s.act(func(ctx context.Context, name string) error {
		if err := s.Stop(ctx, name); err != nil {
			return err
		}
		return s.Start(ctx, name)
	}))
	return mux
}

// act answers when the action on the named component is complete.
func (s *Supervisor) act(action func(context.Context, string) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if err := action(r.Context(), r.PathValue("name")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	}
}
