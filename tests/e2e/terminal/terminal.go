// Package terminal runs txtar scripts that read like a terminal session against a real cluster.
//
// A script is what a user types, each command followed by what the user must see:
//
//	say 'An unlabelled port is closed.'
//	until '^404' kubectl exec deploy/client -- curl -s -o /dev/null -w %{http_code} http://reviews:9080/
//	$ kubectl label service reviews traffic.port.9080=http
//	$ kubectl exec deploy/client -- curl -s http://reviews:9080/reviews/0
//	stdout reviews-v1
//
// Beside testscript's own commands there are these:
//
//	say TEXT                   tells the reader what comes next
//	$ COMMAND ARGS...          runs a command; "! $" expects it to fail; a last word &NAME& leaves it running
//	await NAME                 waits for a command left running; its output is what stdout looks at
//	until REGEX COMMAND...     runs a command until its output matches, for a minute
//	count WORD MIN MAX         checks the number before WORD in the output of the last command ("uniq -c")
//	remember NAME REGEX        keeps the number that the regex's group finds in the output of the last command
//	risen NAME REGEX           checks that the number is now greater
//
// Each script has a namespace of its own, which is the current one of its kubeconfig.
package terminal

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// Config says where scripts run and who watches them.
type Config struct {
	// Kubeconfig is the cluster's administrator file.
	Kubeconfig string
	// Bin is the folder with kubectl and helm.
	Bin string
	// Screen shows the session while it runs; nil shows nothing.
	Screen *Screen
	// Collect writes what helps to understand a failure into a folder and names it. It may be nil.
	Collect func(ctx context.Context, script string) (folder string, err error)
	// Dir is the current folder of the session.
	Dir string
	// Cmds are further script commands.
	Cmds map[string]func(ts *testscript.TestScript, neg bool, args []string)
	// Keep leaves the script's namespace in place, for the user to go on with.
	Keep bool
	// Namespace is the namespace of every script, emptied before; without it each gets one of its own.
	Namespace string
}

// Params returns the settings with which testscript runs the files.
func (c Config) Params(files ...string) testscript.Params {
	cmds := map[string]func(*testscript.TestScript, bool, []string){
		"say":   c.say,
		"$":     c.run,
		"await": c.await,
		"until": c.until,
		"count": c.count,

		"remember": c.remember,
		"risen":    c.risen,
	}
	maps.Copy(cmds, c.Cmds)
	return testscript.Params{Files: files, Setup: c.setup, Cmds: cmds}
}

const (
	// commandLimit bounds one command, untilLimit the wait of until for what the cluster is bound to do.
	commandLimit = 3 * time.Minute
	untilLimit   = time.Minute
	untilPause   = 100 * time.Millisecond
	// longestPause is between two looks at what takes long: a look by kubectl exec is 120 ms of a processor, which others wait for.
	longestPause = time.Second
)

func (c Config) setup(env *testscript.Env) error {
	name := c.Namespace
	if name == "" {
		name = "e2e-" + strings.ReplaceAll(filepath.Base(env.WorkDir), "script-", "")
	}
	kubeconfig := filepath.Join(env.WorkDir, "kubeconfig")
	data, err := os.ReadFile(c.Kubeconfig)
	if err != nil {
		return fmt.Errorf("no cluster (make up starts one): %w", err)
	}
	if err := os.WriteFile(kubeconfig, data, 0o600); err != nil {
		return err
	}
	env.Vars = append(env.Vars,
		"KUBECONFIG="+kubeconfig,
		"NAMESPACE="+name,
		"PATH="+c.Bin+string(os.PathListSeparator)+os.Getenv("PATH"),
		// One discovery cache for all scripts: kubectl would ask anew in every work directory.
		"KUBECACHEDIR="+filepath.Join(os.TempDir(), "traffic-e2e-kube-cache"),
		"TERM=dumb",
	)
	if c.Dir != "" {
		env.Cd = c.Dir
	}
	env.Values[jobsKey{}] = map[string]*job{}
	env.Values[numbersKey{}] = map[string]int{}
	if err := c.kubectl(env, "delete", "namespace", name, "--ignore-not-found"); err != nil {
		return err
	}
	if err := c.kubectl(env, "create", "namespace", name); err != nil {
		return err
	}
	if err := c.kubectl(env, "config", "set-context", "--current", "--namespace="+name); err != nil {
		return err
	}
	env.Defer(func() { c.finish(env, name) })
	return nil
}

// finish collects what explains a failure and removes the namespace.
func (c Config) finish(env *testscript.Env, namespace string) {
	for _, j := range env.Values[jobsKey{}].(map[string]*job) {
		j.stop()
	}
	if t, ok := env.T().(interface{ Failed() bool }); ok && t.Failed() && c.Collect != nil {
		ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
		defer cancel()
		folder, err := c.Collect(ctx, namespace)
		if err != nil {
			env.T().Log(fmt.Sprintf("collecting what explains the failure: %v", err))
		}
		env.T().Log("what explains the failure is in " + folder)
	}
	if !c.Keep {
		if err := c.kubectl(env, "delete", "namespace", namespace, "--wait=false"); err != nil {
			env.T().Log(err)
		}
	}
}

func (c Config) kubectl(env *testscript.Env, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(c.Bin, "kubectl"), args...)
	cmd.Env = env.Vars
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return nil
}
