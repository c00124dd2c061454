package xds_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/tools/txtar"

	"github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/ingress"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

var update = flag.Bool("update", false, "write what is into testdata/*.txtar")

// TestStories plays the stories in testdata. Each begins with objects.yaml; files N.apply.yaml and N.delete.yaml are
// events, N.changes what each changed; the rest is what there is at the end. go test ./xds -update writes it anew.
func TestStories(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no stories: %v", err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if len(archive.Comment) == 0 {
				t.Error("a story begins with a sentence that says what it is about")
			}
			got := txtar.Format(play(t, archive))
			if *update {
				if err := os.WriteFile(path, got, 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if want := txtar.Format(archive); !bytes.Equal(want, got) {
				t.Errorf("%s is not what there is (-want +got); if it should be, run go test ./xds -update:\n%s", path, lineDiff(want, got))
			}
		})
	}
}

// TestEveryLabelHasAStory: a label without a story is a label whose effect nobody reviewed.
func TestEveryLabelHasAStory(t *testing.T) {
	var all strings.Builder
	paths, _ := filepath.Glob("testdata/*.txtar")
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(text)
	}
	for _, entry := range label.IngressTable {
		if !strings.Contains(all.String(), entry.Name) {
			t.Errorf("no story has %s", entry.Name)
		}
	}
	for _, entry := range label.Table {
		// Opting in is the webhook's.
		if name := strings.TrimSuffix(entry.Name, "<port>"); name != label.EnabledKey && !strings.Contains(all.String(), name) {
			t.Errorf("no story has %s", entry.Name)
		}
	}
}

// A player is the pipeline from objects to resources, without the I/O at its ends.
type player struct {
	mesh     *mesh.Mesh
	snapshot *envoy.Snapshot
	live     map[envoy.Key]envoy.Resource
	problems map[mesh.Object][]label.Problem

	ingresses *ingress.Gateway
	gateway   *envoy.Gateway
	served    map[envoy.Key]envoy.Resource
	// serves says that there was an Ingress.
	serves bool
	// shows says that the story shows the gateway's listeners, which are mostly the same.
	shows bool
}

func (p *player) delete(o mesh.Object) {
	p.mesh.Delete(o)
	p.ingresses.Delete(o)
}

// noon is when stories happen.
var noon = time.Date(2030, 1, 1, 12, 0, 0, 0, time.UTC)

// fallback stands for the gateway's own certificate.
var fallback = ingress.Pair{Chain: []byte("fallback"), Key: []byte("fallback")}

func newPlayer(t *testing.T) *player {
	translator, err := envoy.NewTranslator(envoy.Config{
		AccessLog: envoy.LogAll,
		Collector: envoy.Collector{Kind: envoy.Zipkin, Address: envoy.CollectorAddress{Host: "zipkin.tracing", Port: 9411}},
	})
	if err != nil {
		t.Fatal(err)
	}
	gateway, err := envoy.NewGateway(translator, envoy.GatewayConfig{HTTPPort: 8080, HTTPSPort: 8443, IPv6: true, Fallback: fallback})
	if err != nil {
		t.Fatal(err)
	}
	return &player{
		ingresses: ingress.New(ingress.Config{Controller: "kubernetes-traffic-manager/ingress"}),
		gateway:   gateway,
		served:    map[envoy.Key]envoy.Resource{},
		mesh:      mesh.New(mesh.Config{KubernetesAPI: true, Collector: true}),
		snapshot:  envoy.NewSnapshot(translator),
		live:      map[envoy.Key]envoy.Resource{},
		problems:  map[mesh.Object][]label.Problem{},
	}
}

// flush returns what changed, a line each.
func (p *player) flush(t *testing.T) []string {
	changes := p.mesh.Flush()
	u, failures := p.snapshot.Apply(changes.Ports)
	for _, f := range failures {
		t.Error(f)
	}
	var lines []string
	for _, l := range changes.Labels {
		lines = append(lines, fmt.Sprintf("%s: %s %q -> %q", l.Object, l.Key, l.Old, l.New))
	}
	lines = append(lines, apply(p.live, u, "")...)
	served := p.ingresses.Flush(noon, p.mesh, changes.Services)
	g, unserved := p.gateway.Apply(served)
	for _, f := range unserved {
		t.Errorf("%s of %s: %v", f.Key, f.Object, f.Err)
	}
	lines = append(lines, apply(p.served, g, "gateway ")...)
	for _, c := range append(changes.Problems, served.Problems...) {
		c.Problems = p.ingresses.InForce(c.Object, c.Problems)
		if len(c.Problems)+len(p.problems[c.Object]) == 0 {
			continue
		}
		p.problems[c.Object] = c.Problems
		for _, problem := range c.Problems {
			lines = append(lines, fmt.Sprintf("! %s: %s", c.Object, problem))
		}
		if len(c.Problems) == 0 {
			delete(p.problems, c.Object)
			lines = append(lines, fmt.Sprintf("! %s: fixed", c.Object))
		}
	}
	return lines
}

// apply brings resources to an update and returns a line for each.
func apply(live map[envoy.Key]envoy.Resource, u envoy.Update, where string) []string {
	var lines []string
	for _, r := range u.Set {
		sign := "~"
		if _, known := live[r.Key]; !known {
			sign = "+"
		}
		live[r.Key] = r
		lines = append(lines, fmt.Sprintf("%s %s%s %s", sign, where, typeName(r.Type), r.Name))
	}
	for _, key := range u.Remove {
		delete(live, key)
		lines = append(lines, fmt.Sprintf("- %s%s %s", where, typeName(key.Type), key.Name))
	}
	return lines
}

// play returns the archive with what its inputs lead to.
func play(t *testing.T, archive *txtar.Archive) *txtar.Archive {
	var (
		out     = &txtar.Archive{Comment: archive.Comment}
		p       = newPlayer(t)
		objects = map[mesh.Object]func(*player){}
	)
	for _, f := range archive.Files {
		step, action, _ := strings.Cut(strings.TrimSuffix(f.Name, ".yaml"), ".")
		switch {
		case f.Name == "objects.yaml", action == "apply":
			for o, set := range decode(t, f) {
				p.serves = p.serves || o.Kind == ingress.Ingress
				objects[o] = set
				set(p)
			}
		case action == "delete":
			for o := range decode(t, f) {
				delete(objects, o)
				p.delete(o)
			}
		case f.Name == listenersFile:
			p.shows = true
			continue
		default:
			continue
		}
		out.Files = append(out.Files, f)
		lines := p.flush(t)
		if action != "" {
			out.Files = append(out.Files, textFile(step+".changes", lines))
		}
		checkReferences(t, p.live)
		checkReferences(t, p.served)
	}
	checkFromScratch(t, objects, p)
	out.Files = append(out.Files, outputs(t, p)...)
	return out
}

// checkFromScratch compares with a control plane that starts on the objects as they are at the end.
func checkFromScratch(t *testing.T, objects map[mesh.Object]func(*player), played *player) {
	p := newPlayer(t)
	for _, set := range objects {
		set(p)
	}
	p.flush(t)
	for _, pair := range []struct{ was, is map[envoy.Key]envoy.Resource }{{played.live, p.live}, {played.served, p.served}} {
		for key, r := range pair.was {
			if pair.is[key].Version != r.Version {
				t.Errorf("%s %s is not the same from scratch", typeName(key.Type), key.Name)
			}
		}
		if len(pair.is) != len(pair.was) {
			t.Errorf("%d resources, %d from scratch", len(pair.was), len(pair.is))
		}
	}
}

func textFile(name string, lines []string) txtar.File {
	var text string
	for _, line := range lines {
		text += line + "\n"
	}
	return txtar.File{Name: name, Data: []byte(text)}
}

// lineDiff shows the lines that differ, each with its number, from the first to the last of them.
func lineDiff(want, got []byte) string {
	w, g := strings.Split(string(want), "\n"), strings.Split(string(got), "\n")
	start := 0
	for start < min(len(w), len(g)) && w[start] == g[start] {
		start++
	}
	end := 0
	for end < min(len(w), len(g))-start && w[len(w)-1-end] == g[len(g)-1-end] {
		end++
	}
	var b strings.Builder
	fmt.Fprintf(&b, "@@ line %d\n", start+1)
	for _, line := range w[start : len(w)-end] {
		b.WriteString("-" + line + "\n")
	}
	for _, line := range g[start : len(g)-end] {
		b.WriteString("+" + line + "\n")
	}
	return b.String()
}
