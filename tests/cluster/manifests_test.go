package cluster

import (
	"regexp"
	"testing"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/images"
)

// A version that is raised in one place alone leaves the cluster without DNS.
func TestManifestsNameBuiltImages(t *testing.T) {
	built := map[string]bool{}
	for _, image := range append(images.All("/bin"), images.Pebble("/bin")) {
		built["localhost:5000/"+image.Name] = true
	}
	files, err := manifests.ReadDir("manifests")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, f := range files {
		content, err := manifests.ReadFile("manifests/" + f.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, image := range regexp.MustCompile(`localhost:5000/[^\s\],]+`).FindAllString(string(content), -1) {
			found++
			if !built[image] {
				t.Errorf("%s names image %s, which is not built", f.Name(), image)
			}
		}
	}
	if found < 5 {
		t.Errorf("found %d images in the manifests, want 5", found)
	}
}
