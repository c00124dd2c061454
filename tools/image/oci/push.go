package oci

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Manifest is an image or an index of images.
type Manifest interface {
	remote.Taggable
	partial.Describable
}

// Push puts manifest into a registry under reference, for example "localhost:5000/traffic-control:0.1.0", with the
// credentials of docker login. It sends nothing and returns false when the registry has the same digest there already.
// Registries on localhost are spoken to over plain HTTP, others over HTTPS.
func Push(ctx context.Context, reference string, manifest Manifest) (sent bool, err error) {
	tag, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return false, fmt.Errorf("parse image reference: %w", err)
	}
	digest, err := manifest.Digest()
	if err != nil {
		return false, fmt.Errorf("digest of %s: %w", reference, err)
	}
	options := []remote.Option{remote.WithContext(ctx), remote.WithAuthFromKeychain(authn.DefaultKeychain)}
	there, err := remote.Head(tag, options...)
	if err == nil && there.Digest == digest {
		return false, nil
	}
	if err != nil && !isNotFound(err) {
		return false, fmt.Errorf("ask registry for %s: %w", reference, err)
	}
	pusher, err := remote.NewPusher(options...)
	if err != nil {
		return false, fmt.Errorf("open registry of %s: %w", reference, err)
	}
	if err := pusher.Push(ctx, tag, manifest); err != nil {
		return false, fmt.Errorf("push %s: %w", reference, err)
	}
	return true, nil
}

func isNotFound(err error) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound
}

// WriteArchive writes images to one file that docker, podman, nerdctl, ctr and kind load. Keys are references with a tag.
func WriteArchive(file string, images map[string]v1.Image) error {
	tagged := make(map[name.Tag]v1.Image, len(images))
	for reference, image := range images {
		tag, err := name.NewTag(reference, name.StrictValidation)
		if err != nil {
			return fmt.Errorf("parse image reference: %w", err)
		}
		tagged[tag] = image
	}
	if err := tarball.MultiWriteToFile(file, tagged); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return nil
}
