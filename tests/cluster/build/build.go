// Package build makes the programs that a cluster runs, each from the registry
// of its own language or from Debian, and remembers of which version they are.
package build

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Step makes some files. It runs when its Key is not the one of the last run
// or a file is missing.
type Step struct {
	Name   string
	Result []string // paths of the files that it makes
	Key    string   // what the result depends on
	Run    func(context.Context) error
}

// Builder makes programs in Bin from the sources in Root.
type Builder struct {
	Root string // of the repository
	Bin  string // where the programs go
	// Timed runs a step and says how long it took.
	Timed func(ctx context.Context, name string, run func(context.Context) error) error
}

// parallel steps: while one downloads or links, another compiles.
const parallel = 2

// Programs builds every program that is missing, and installs those of Debian.
func (b *Builder) Programs(ctx context.Context) error {
	if err := b.installPackages(ctx, debian); err != nil {
		return err
	}
	steps, err := b.steps(ctx)
	if err != nil {
		return err
	}
	return b.Do(ctx, steps)
}

// Do runs the steps whose result is not there, in no certain order.
func (b *Builder) Do(ctx context.Context, steps []Step) error {
	if err := os.MkdirAll(filepath.Join(b.Bin, ".stamps"), 0o755); err != nil {
		return fmt.Errorf("create the directory of programs: %w", err)
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(parallel)
	for _, s := range steps {
		if b.done(s) {
			continue
		}
		group.Go(func() error {
			if err := ctx.Err(); err != nil {
				return err
			}
			return b.Timed(ctx, "build "+s.Name, func(ctx context.Context) error { return b.run(ctx, s) })
		})
	}
	return group.Wait()
}

func (b *Builder) stamp(s Step) string { return filepath.Join(b.Bin, ".stamps", s.Name) }

// done reports whether the files of s are there and of the right version.
func (b *Builder) done(s Step) bool {
	key, err := os.ReadFile(b.stamp(s))
	if err != nil || string(key) != s.Key {
		return false
	}
	for _, f := range s.Result {
		if _, err := os.Stat(f); err != nil {
			return false
		}
	}
	return true
}

func (b *Builder) run(ctx context.Context, s Step) error {
	if err := os.Remove(b.stamp(s)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the last build: %w", err)
	}
	if err := s.Run(ctx); err != nil {
		return err
	}
	return os.WriteFile(b.stamp(s), []byte(s.Key), 0o644)
}

// command runs a program and returns its standard output; all that it wrote is
// in the error.
func command(ctx context.Context, dir string, env []string, args ...string) (string, error) {
	var stdout, stderr strings.Builder
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", strings.Join(args, " "), err, stdout.String()+stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// hashDir is a hash of the Go sources and module files below dir.
func hashDir(dir string) (string, error) {
	h := sha256.New()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch filepath.Ext(path) {
		case ".go", ".mod", ".sum":
		default:
			return nil
		}
		content, err := os.ReadFile(path)
		h.Write(fmt.Appendf(nil, "%s %d\n", filepath.Base(path), len(content)))
		h.Write(content)
		return err
	})
	return fmt.Sprintf("%x", h.Sum(nil)), err
}
