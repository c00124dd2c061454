// Command image builds the images of this repository's programs without a container runtime: static binaries in one
// layer, the same digest each time. It pushes them to a registry, or writes an archive that a node can load.
//
//	go run ./tools/image -registry localhost:5000
//	go run ./tools/image -registry registry.example.org/traffic -platform linux/amd64,linux/arm64 traffic-control
//	go run ./tools/image -archive images.tar bookinfo
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"sigs.k8s.io/yaml"

	"github.com/kubernetes-traffic-manager/traffic/tools/image/oci"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	options, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = build(ctx, options, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		return 1
	}
	return 0
}

// built is an image that has been made but not yet been put anywhere.
type built struct {
	product   product
	reference string       // registry/name:version
	images    []v1.Image   // one for each platform
	manifest  oci.Manifest // the image, or the index of several
}

// build compiles, assembles and delivers what options name, and prints a line for each step.
func build(ctx context.Context, options Options, out io.Writer) error {
	dir, err := os.MkdirTemp("", "image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)

	started := time.Now()
	all, err := assemble(ctx, options, dir)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "built %d images of version %s in %s\n", len(all), options.Version, time.Since(started).Round(time.Millisecond))
	if options.Archive != "" {
		err = archive(options.Archive, all, out)
	} else {
		err = push(ctx, all, out)
	}
	if err != nil || options.Values == "" {
		return err
	}
	return writeValues(options.Values, all)
}

// assemble compiles all programs, one platform after the other, and makes an image of each product.
func assemble(ctx context.Context, options Options, dir string) ([]built, error) {
	var packages []string
	for _, product := range options.Products {
		packages = append(packages, product.packages...)
	}
	all := make([]built, len(options.Products))
	for _, platform := range options.Platforms {
		binaries := filepath.Join(dir, platform.String())
		if err := compile(ctx, options.Root, binaries, platform, packages...); err != nil {
			return nil, err
		}
		for i, product := range options.Products {
			image, err := product.image(binaries, options.Version, platform)
			if err != nil {
				return nil, fmt.Errorf("image %s: %w", product.name, err)
			}
			all[i].images = append(all[i].images, image)
		}
	}
	for i, product := range options.Products {
		all[i].product = product
		all[i].reference = fmt.Sprintf("%s/%s:%s", options.Registry, product.name, options.Version)
		all[i].manifest = all[i].images[0]
		if len(options.Platforms) > 1 {
			index, err := oci.Index(all[i].images)
			if err != nil {
				return nil, fmt.Errorf("image %s: %w", product.name, err)
			}
			all[i].manifest = index
		}
	}
	return all, nil
}

func push(ctx context.Context, all []built, out io.Writer) error {
	for _, image := range all {
		started := time.Now()
		sent, err := oci.Push(ctx, image.reference, image.manifest)
		if err != nil {
			return err
		}
		pinned, err := image.pinned()
		if err != nil {
			return err
		}
		if sent {
			fmt.Fprintf(out, "%s pushed in %s\n", pinned, time.Since(started).Round(time.Millisecond))
		} else {
			fmt.Fprintf(out, "%s is up to date\n", pinned)
		}
	}
	return nil
}

func archive(file string, all []built, out io.Writer) error {
	images := map[string]v1.Image{}
	for _, image := range all {
		images[image.reference] = image.images[0]
	}
	if err := oci.WriteArchive(file, images); err != nil {
		return err
	}
	for _, reference := range slices.Sorted(maps.Keys(images)) {
		fmt.Fprintf(out, "%s is in %s\n", reference, file)
	}
	return nil
}

// writeValues writes a helm values file that names each image by digest, so that an upgrade rolls what really changed.
func writeValues(file string, all []built) error {
	images := map[string]string{}
	for _, image := range all {
		if image.product.value == "" {
			continue
		}
		pinned, err := image.pinned()
		if err != nil {
			return err
		}
		images[image.product.value] = pinned
	}
	text, err := yaml.Marshal(map[string]any{"images": images})
	if err != nil {
		return fmt.Errorf("write helm values: %w", err)
	}
	return os.WriteFile(file, text, 0o644)
}

// pinned is the reference with the digest of its content.
func (b built) pinned() (string, error) {
	digest, err := b.manifest.Digest()
	if err != nil {
		return "", fmt.Errorf("digest of %s: %w", b.reference, err)
	}
	return b.reference + "@" + digest.String(), nil
}
