// Package oci makes reproducible container images out of plain files, without a container runtime, and puts them in a
// registry or an archive: the same files and configuration have the same digest on every machine.
package oci

import (
	"bytes"
	"fmt"
	"io"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Config is what an image says about running it.
type Config struct {
	Platform   v1.Platform       // operating system and architecture, for example linux/amd64
	Entrypoint []string          // program and first arguments
	Env        []string          // KEY=value
	User       string            // "uid:gid", numeric: there need not be an /etc/passwd
	Labels     map[string]string // org.opencontainers.image.* and others
}

// Image returns an image of one layer that holds files and the directories above them.
// Owners, times and order are fixed, so that equal files give an equal digest.
func Image(files []File, config Config) (v1.Image, error) {
	var archive bytes.Buffer
	if err := writeLayer(&archive, files); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	layer, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, fmt.Errorf("compress layer: %w", err)
	}
	base := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	base, err = mutate.ConfigFile(base, &v1.ConfigFile{
		OS:           config.Platform.OS,
		Architecture: config.Platform.Architecture,
		Variant:      config.Platform.Variant,
		Created:      v1.Time{Time: time.Unix(0, 0).UTC()},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			Entrypoint: config.Entrypoint,
			Env:        config.Env,
			User:       config.User,
			Labels:     config.Labels,
		},
	})
	if err != nil {
		return nil, fmt.Errorf("set image configuration: %w", err)
	}
	image, err := mutate.Append(base, mutate.Addendum{Layer: layer, MediaType: types.OCILayer})
	if err != nil {
		return nil, fmt.Errorf("append layer: %w", err)
	}
	return image, nil
}

// Index returns a multi-platform image: a runtime picks the image of its own platform.
func Index(images []v1.Image) (v1.ImageIndex, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	for _, image := range images {
		file, err := image.ConfigFile()
		if err != nil {
			return nil, fmt.Errorf("read image configuration: %w", err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: file.Platform()},
		})
	}
	return index, nil
}
