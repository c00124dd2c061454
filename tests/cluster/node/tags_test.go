package node

import (
	"io"
	"log"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// A registry that forgot its tags when it was restarted would leave every pod
// without its image.
func TestTagsOutliveTheRegistry(t *testing.T) {
	blobs, tags := registry.NewDiskBlobHandler(t.TempDir()), t.TempDir()
	serve := func() string {
		quiet := registry.Logger(log.New(io.Discard, "", 0))
		handler, err := remember(tags, registry.New(registry.WithBlobHandler(blobs), quiet))
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewServer(handler)
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	first := serve()
	image, err := random.Image(100, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := crane.Push(image, first+"/some/app:v1"); err != nil {
		t.Fatal(err)
	}
	index, err := random.Index(100, 1, 2)
	if err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(first + "/some/multi:v1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(tag, index); err != nil {
		t.Fatal(err)
	}

	second := serve()
	for _, image := range []string{"/some/app:v1", "/some/multi:v1"} {
		before, err := crane.Digest(first + image)
		if err != nil {
			t.Fatal(err)
		}
		after, err := crane.Digest(second + image)
		if err != nil || after != before {
			t.Errorf("%s after the restart: digest %q, %v; want %s", image, after, err, before)
		}
	}
}
