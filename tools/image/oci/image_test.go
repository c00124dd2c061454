package oci

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

var linuxConfig = Config{
	Platform:   v1.Platform{OS: "linux", Architecture: "amd64"},
	Entrypoint: []string{"/bin/hello"},
	Env:        []string{"PATH=/bin"},
	User:       "65532:65532",
	Labels:     map[string]string{"org.opencontainers.image.title": "hello"},
}

// hello returns the files of a small image, one of them copied from a host file of the given age.
func hello(t *testing.T, age time.Duration) []File {
	t.Helper()
	source := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(source, []byte("#!/bin/sh\necho hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(source, time.Time{}, time.Now().Add(-age)); err != nil {
		t.Fatal(err)
	}
	return []File{
		{Path: "/bin/hello", Mode: 0o755, Source: source},
		{Path: "/bin/hi", Mode: fs.ModeSymlink | 0o777, Link: "hello"},
		{Path: "/etc/empty", Mode: 0o644},
		{Path: "/tmp", Mode: fs.ModeDir | fs.ModeSticky | 0o777},
		{Path: "/home/user/note", Mode: 0o600, Content: []byte("mine"), UID: 1000, GID: 1001},
	}
}

// A user who builds the same commit twice, anywhere, must get the same digest, or nothing can be verified.
func TestSameFilesSameDigest(t *testing.T) {
	young := hello(t, time.Second)
	old := hello(t, 1000*time.Hour)
	old[0], old[3] = old[3], old[0]

	first, second := digest(t, young, linuxConfig), digest(t, old, linuxConfig)
	if first != second {
		t.Errorf("the digest depends on the order or age of files: %s and %s", first, second)
	}
	changed := linuxConfig
	changed.User = "0:0"
	if digest(t, young, changed) == first {
		t.Error("an image of another user has the same digest")
	}
	image, err := Image(young, linuxConfig)
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	content, err := layers[0].DiffID()
	if err != nil {
		t.Fatal(err)
	}
	// A literal: the archive may depend on nothing of this machine, this user or this day.
	const want = "sha256:51b0ee2fcdbcdc88c260e5e2e6384d40fcfa688fe71eec1b379581639d3f24c9"
	if content.String() != want {
		t.Errorf("layer content is %s, want %s", content, want)
	}
}

func digest(t *testing.T, files []File, config Config) string {
	t.Helper()
	image, err := Image(files, config)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := image.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return hash.String()
}

// A program that is not executable, or whose directory is missing, does not start.
func TestImageHoldsFilesWithModesAndOwners(t *testing.T) {
	image, err := Image(hello(t, 0), linuxConfig)
	if err != nil {
		t.Fatal(err)
	}
	extracted := mutate.Extract(image)
	defer extracted.Close()
	type entry struct {
		Mode          int64
		UID, GID      int
		Content, Link string
	}
	got := map[string]entry{}
	archive := tar.NewReader(extracted)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		got[strings.TrimSuffix(header.Name, "/")] = entry{header.Mode, header.Uid, header.Gid, string(content), header.Linkname}
	}
	want := map[string]entry{
		"bin":            {Mode: 0o755},
		"bin/hello":      {Mode: 0o755, Content: "#!/bin/sh\necho hello\n"},
		"bin/hi":         {Mode: 0o777, Link: "hello"},
		"etc":            {Mode: 0o755},
		"etc/empty":      {Mode: 0o644},
		"home":           {Mode: 0o755},
		"home/user":      {Mode: 0o755},
		"home/user/note": {Mode: 0o600, UID: 1000, GID: 1001, Content: "mine"},
		"tmp":            {Mode: 0o1777},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("image content (-want +got):\n%s", diff)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.User != "65532:65532" || config.Architecture != "amd64" || config.Config.Entrypoint[0] != "/bin/hello" {
		t.Errorf("image configuration is %+v", config)
	}
}

func TestImageRefusesWrongFiles(t *testing.T) {
	for name, test := range map[string]struct {
		files []File
		want  string
	}{
		"relative path":  {[]File{{Path: "bin/x"}}, `path "bin/x" of an image file is not absolute and clean`},
		"unclean path":   {[]File{{Path: "/bin/../x"}}, `path "/bin/../x" of an image file is not absolute and clean`},
		"root":           {[]File{{Path: "/"}}, `path "/" of an image file is not absolute and clean`},
		"twice":          {[]File{{Path: "/x"}, {Path: "/x"}}, `path "/x" is in the image twice`},
		"device":         {[]File{{Path: "/x", Mode: fs.ModeDevice}}, "/x: a file of mode D--------- cannot be in an image"},
		"missing source": {[]File{{Path: "/x", Source: "/nonexistent/file"}}, "/x: open /nonexistent/file: no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Image(test.files, linuxConfig); err == nil || err.Error() != test.want {
				t.Errorf("error is %v, want %s", err, test.want)
			}
		})
	}
}

// A second `make images` must not send what the registry has.
func TestPushSendsOnlyWhatIsNew(t *testing.T) {
	writes := 0
	server := httptest.NewServer(count(&writes, registry.New(registry.Logger(log.New(io.Discard, "", 0)))))
	defer server.Close()
	reference := strings.TrimPrefix(server.URL, "http://") + "/traffic/hello:1.2.3"

	image, err := Image(hello(t, 0), linuxConfig)
	if err != nil {
		t.Fatal(err)
	}
	push := func(manifest Manifest, want bool) {
		t.Helper()
		sent, err := Push(context.Background(), reference, manifest)
		if err != nil {
			t.Fatal(err)
		}
		if sent != want {
			t.Errorf("sent is %t, want %t", sent, want)
		}
	}
	push(image, true)
	writes = 0
	push(image, false)
	if writes != 0 {
		t.Errorf("the second push made %d writes", writes)
	}

	arm := linuxConfig
	arm.Platform.Architecture = "arm64"
	other, err := Image(hello(t, 0), arm)
	if err != nil {
		t.Fatal(err)
	}
	index, err := Index([]v1.Image{image, other})
	if err != nil {
		t.Fatal(err)
	}
	push(index, true)
	push(index, false)
	for _, architecture := range []string{"amd64", "arm64"} {
		pulled := pull(t, reference, v1.Platform{OS: "linux", Architecture: architecture})
		if pulled.Architecture != architecture {
			t.Errorf("pulled %s, want %s", pulled.Architecture, architecture)
		}
	}
}

func count(writes *int, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			*writes++
		}
		next.ServeHTTP(w, r)
	})
}

func pull(t *testing.T, reference string, platform v1.Platform) *v1.ConfigFile {
	t.Helper()
	tag, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(tag, remote.WithPlatform(platform))
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func TestPushNamesWhatIsWrong(t *testing.T) {
	image, err := Image(hello(t, 0), linuxConfig)
	if err != nil {
		t.Fatal(err)
	}
	refuse := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusForbidden)
	}))
	defer refuse.Close()
	host := strings.TrimPrefix(refuse.URL, "http://")
	for reference, want := range map[string]string{
		"no tag":          "parse image reference",
		host + "/hello:1": "ask registry for " + host + "/hello:1",
	} {
		if _, err := Push(context.Background(), reference, image); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error is %v, want %s ...", err, want)
		}
	}
}

// Those who have no registry load one file into their nodes.
func TestArchiveLoads(t *testing.T) {
	image, err := Image(hello(t, 0), linuxConfig)
	if err != nil {
		t.Fatal(err)
	}
	const reference = "example.org/hello:1"
	file := filepath.Join(t.TempDir(), "images.tar")
	if err := WriteArchive(file, map[string]v1.Image{reference: image}); err != nil {
		t.Fatal(err)
	}
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	loaded, err := tarball.ImageFromPath(file, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := loaded.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Config.Labels["org.opencontainers.image.title"] != "hello" {
		t.Errorf("loaded image has labels %v", config.Config.Labels)
	}
}
