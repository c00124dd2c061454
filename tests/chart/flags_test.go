package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// programs are the packages of the containers that the chart runs.
var programs = map[string]string{
	"traffic-control": "./xds/cmd/traffic-control",
	"traffic-webhook": "./webhook/cmd/traffic-webhook",
	"traffic-node":    "./cni-plugin/cmd/traffic-node",
	"traffic-drain":   "./xds/cmd/traffic-drain",
}

// outside are flags for running a program outside a cluster; inside, a pod's environment says it.
var outside = []string{"kubeconfig", "service"}

// pods returns the pod templates of the chart by name.
func pods(t *testing.T, rendered string) map[string]corev1.PodTemplateSpec {
	t.Helper()
	all := map[string]corev1.PodTemplateSpec{}
	for _, deployment := range decode[appsv1.Deployment](t, rendered, "Deployment") {
		all[deployment.Name] = deployment.Spec.Template
	}
	for _, daemonSet := range decode[appsv1.DaemonSet](t, rendered, "DaemonSet") {
		all[daemonSet.Name] = daemonSet.Spec.Template
	}
	return all
}

// An argument that its program does not know stops the program; a flag that the chart does not set cannot be set by a user.
func TestArgumentsAreTheProgramsFlags(t *testing.T) {
	bin := t.TempDir()
	// As images are built, so that most of it has been compiled already.
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", bin+string(filepath.Separator))
	for _, program := range programs {
		build.Args = append(build.Args, program)
	}
	build.Dir = root
	build.Env = append(os.Environ(), "GOWORK=off", "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	arguments := map[string][]string{}
	for _, pod := range pods(t, template(t)) {
		arguments[pod.Spec.Containers[0].Name] = pod.Spec.Containers[0].Args
	}
	for name := range programs {
		arguments, there := arguments[name]
		if !there {
			t.Errorf("the chart does not run %s", name)
			continue
		}
		passed := flagNames(strings.Join(arguments, "\n"), `(?m)^--([a-z0-9-]+)=`)
		if len(passed) != len(arguments) {
			t.Errorf("%s: an argument is not of the form --name=value: %q", name, arguments)
		}
		usage, _ := exec.Command(filepath.Join(bin, name), "-h").CombinedOutput()
		known := flagNames(string(usage), `(?m)^ +--?([a-z0-9-]+)`)
		if len(known) == 0 {
			t.Errorf("%s -h names no flag:\n%s", name, usage)
		}
		known = slices.DeleteFunc(known, func(name string) bool { return slices.Contains(outside, name) })
		if !slices.Equal(passed, known) {
			t.Errorf("%s: the chart passes %v\nthe program takes %v", name, passed, known)
		}
	}
}

func flagNames(text, pattern string) []string {
	var names []string
	for _, match := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		names = append(names, match[1])
	}
	slices.Sort(names)
	return slices.Compact(names)
}
