package images

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/kubernetes-traffic-manager/traffic/tests/cluster/build"
	"github.com/kubernetes-traffic-manager/traffic/tools/image/oci"
)

// Zipkin collects spans and answers on port 9411, with the machine's own Java.
func Zipkin(bin string) Image {
	java := "/usr/bin/java"
	if resolved, err := filepath.EvalSymlinks(java); err == nil {
		java = resolved
	}
	home := filepath.Dir(filepath.Dir(java))
	return Image{
		Name: "zipkin:" + build.ZipkinVersion, Program: java, Path: java, Shared: true,
		Linked:     []string{filepath.Join(home, "lib/server/libjvm.so")},
		Trees:      []string{filepath.Join(home, "conf"), filepath.Join(home, "lib")},
		Entrypoint: []string{java, "-Xmx256m", "-jar", "/zipkin.jar"},
		User:       "65532:65532",
		Files:      append(base(), oci.File{Path: "/zipkin.jar", Mode: 0o644, Source: filepath.Join(bin, "zipkin.jar")}),
	}
}

// tree lists the files below dir. Debian keeps some in /etc: of a link the image
// has the content, and nothing where it leads nowhere.
func tree(dir string) ([]oci.File, error) {
	var files []oci.File
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			files = append(files, oci.File{Path: path, Mode: info.Mode().Perm(), Source: path})
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", dir, err)
	}
	return files, nil
}
