// Package later makes what stands for the next release of the product in tests of upgrades: its programs know another version
// of the redirect spec beside this one's, and write that one.
package later

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Spec is what that release's webhook writes.
const Spec = `{"version":2,"proxyUID":1337,"proxyPort":10000}`

// folders of the repository that programs are built from.
var folders = []string{"charts", "cni-plugin", "webhook", "xds"}

// changes make the source of this release that of the next.
var changes = [][2]string{
	{"const Version = 1\n", "const Version = 2\n"},
	{"if s.Version != Version ", "if s.Version != Version && s.Version != 1 "},
}

// Source writes that release's source to dir, an empty folder, from this one's in the repository at root.
func Source(root, dir string) error {
	var errs []error
	for _, folder := range folders {
		errs = append(errs, os.CopyFS(filepath.Join(dir, folder), os.DirFS(filepath.Join(root, folder))))
	}
	for _, file := range []string{"go.mod", "go.sum"} {
		text, err := os.ReadFile(filepath.Join(root, file))
		errs = append(errs, err, os.WriteFile(filepath.Join(dir, file), text, 0o644))
	}
	return errors.Join(append(errs, change(filepath.Join(dir, "cni-plugin/redirect/spec.go")))...)
}

func change(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(data)
	for _, c := range changes {
		if n := strings.Count(text, c[0]); n != 1 {
			return fmt.Errorf("%s: %q is in it %d times, not once", file, c[0], n)
		}
		text = strings.Replace(text, c[0], c[1], 1)
	}
	return os.WriteFile(file, []byte(text), 0o644)
}
