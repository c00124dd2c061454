package build

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
)

// zipkinHash is the SHA-256 of Zipkin's program, which is the same on every
// platform with Java.
const zipkinHash = "7956e7f2c64b7073e1362b81e697fceb5fe61e121ad3cb48d545461026964b0f"

// java runs Zipkin, and fetches it.
var java = []debianProgram{
	{"java", "openjdk-17-jre-headless"},
	{"mvn", "maven"},
}

// Zipkin makes zipkin.jar in Bin, and installs the Java that runs it. The sample
// of tracing alone needs them: a cluster comes up without.
func (b *Builder) Zipkin(ctx context.Context) error {
	if err := b.installPackages(ctx, java); err != nil {
		return err
	}
	return b.Do(ctx, []Step{{
		Name: "zipkin", Key: ZipkinVersion + zipkinHash, Result: []string{filepath.Join(b.Bin, "zipkin.jar")}, Run: b.fetchZipkin,
	}})
}

// fetchZipkin gets Zipkin from Maven's central repository, with Maven: what else
// that fetches for itself goes away with the directory.
func (b *Builder) fetchZipkin(ctx context.Context) error {
	dir, err := os.MkdirTemp(b.Bin, ".build-")
	if err != nil {
		return fmt.Errorf("make a build directory: %w", err)
	}
	defer os.RemoveAll(dir)
	_, err = command(ctx, dir, nil, "mvn", "--quiet", "--batch-mode", "-Dmaven.repo.local="+dir, "dependency:get",
		"-Dartifact=io.zipkin:zipkin-server:"+ZipkinVersion+":jar:slim", "-Dtransitive=false")
	if err != nil {
		return err
	}
	jar := filepath.Join(dir, "io/zipkin/zipkin-server", ZipkinVersion, "zipkin-server-"+ZipkinVersion+"-slim.jar")
	content, err := os.ReadFile(jar)
	if err != nil {
		return fmt.Errorf("read what Maven fetched: %w", err)
	}
	if hash := fmt.Sprintf("%x", sha256.Sum256(content)); hash != zipkinHash {
		return fmt.Errorf("%s from Maven has the SHA-256 %s, want %s", filepath.Base(jar), hash, zipkinHash)
	}
	return os.Rename(jar, filepath.Join(b.Bin, "zipkin.jar"))
}
