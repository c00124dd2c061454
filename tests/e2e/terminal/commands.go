package terminal

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// A job is a command left running.
type job struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	output bytes.Buffer
	done   chan error
}

type jobsKey struct{}

func (j *job) stop() {
	j.cancel()
	for range j.done { // the kill is its only error
	}
}

func (c Config) say(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: say 'text'")
	}
	c.Screen.heading(args[0])
}

func (c Config) run(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: $ command args...")
	}
	if name, background := jobName(args[len(args)-1]); background {
		c.start(ts, name, args[:len(args)-1])
		return
	}
	c.Screen.command(args)
	stdout, stderr, err := c.execute(ts, args)
	c.Screen.output(stdout, stderr)
	writeAll(ts, stdout, stderr)
	switch {
	case err != nil && !neg:
		ts.Fatalf("%s: %v", args[0], err)
	case err == nil && neg:
		ts.Fatalf("%s succeeded, though it must fail", args[0])
	}
}

// jobName returns NAME of a last word &NAME&.
func jobName(word string) (string, bool) {
	name, ok := strings.CutPrefix(word, "&")
	if !ok {
		return "", false
	}
	return strings.CutSuffix(name, "&")
}

func (c Config) start(ts *testscript.TestScript, name string, args []string) {
	c.Screen.command(append(args[:len(args):len(args)], "&"))
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	j := &job{cmd: command(ctx, ts, args), cancel: cancel, done: make(chan error, 1)}
	j.cmd.Stdout, j.cmd.Stderr = &j.output, &j.output
	ts.Check(j.cmd.Start())
	go func() {
		j.done <- j.cmd.Wait()
		close(j.done)
	}()
	ts.Value(jobsKey{}).(map[string]*job)[name] = j
}

func (c Config) await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await name")
	}
	j := ts.Value(jobsKey{}).(map[string]*job)[args[0]]
	if j == nil {
		ts.Fatalf("no command was left running under the name %s", args[0])
	}
	err := <-j.done
	c.Screen.output(j.output.String(), "")
	writeAll(ts, j.output.String(), "")
	ts.Check(err)
}

func (c Config) until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until regex command args...")
	}
	want, err := regexp.Compile("(?m)" + args[0])
	ts.Check(err)
	c.Screen.command(args[1:])
	var stdout, stderr string
	pause := untilPause
	for deadline := time.Now().Add(untilLimit); ; {
		stdout, stderr, err = c.execute(ts, args[1:])
		if want.MatchString(stdout) || want.MatchString(stderr) {
			break
		}
		if time.Now().After(deadline) {
			writeAll(ts, stdout, stderr)
			ts.Fatalf("no output matched %s within %s; last error: %v", args[0], untilLimit, err)
		}
		time.Sleep(pause)
		pause = min(2*pause, longestPause)
	}
	c.Screen.output(stdout, stderr)
	writeAll(ts, stdout, stderr)
}

// count reads output in the form of "uniq -c": a number, blanks, a word. A word that is absent counts 0.
func (c Config) count(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: count word min max")
	}
	low, err := strconv.Atoi(args[1])
	ts.Check(err)
	high, err := strconv.Atoi(args[2])
	ts.Check(err)
	got := 0
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[1] == args[0] {
			got, err = strconv.Atoi(fields[0])
			ts.Check(err)
		}
	}
	if got < low || got > high {
		ts.Fatalf("%s was counted %d times, not %d to %d", args[0], got, low, high)
	}
	c.Screen.checked(args[0] + ": " + strconv.Itoa(got) + ", expected " + args[1] + " to " + args[2])
}

type numbersKey struct{}

func (c Config) remember(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: remember name regex")
	}
	ts.Value(numbersKey{}).(map[string]int)[args[0]] = number(ts, args[1])
}

func (c Config) risen(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: risen name regex")
	}
	before, known := ts.Value(numbersKey{}).(map[string]int)[args[0]]
	if !known {
		ts.Fatalf("%s was not remembered", args[0])
	}
	now := number(ts, args[1])
	if now <= before {
		ts.Fatalf("%s is %d, and was %d before", args[0], now, before)
	}
	c.Screen.checked(args[0] + ": " + strconv.Itoa(before) + " before, " + strconv.Itoa(now) + " now")
}

// number is what the first group of the expression matches in the output of the last command.
func number(ts *testscript.TestScript, expression string) int {
	find, err := regexp.Compile("(?m)" + expression)
	ts.Check(err)
	match := find.FindStringSubmatch(ts.ReadFile("stdout"))
	if len(match) < 2 {
		ts.Fatalf("no number in the output matches %s", expression)
	}
	n, err := strconv.Atoi(match[1])
	ts.Check(err)
	return n
}

func (c Config) execute(ts *testscript.TestScript, args []string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), commandLimit)
	defer cancel()
	var out, errs bytes.Buffer
	cmd := command(ctx, ts, args)
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// command prepares a command with the script's environment: its PATH finds the program, its work directory is where it runs.
func command(ctx context.Context, ts *testscript.TestScript, args []string) *exec.Cmd {
	path := args[0]
	for _, dir := range strings.Split(ts.Getenv("PATH"), string(os.PathListSeparator)) {
		if candidate := dir + "/" + args[0]; isExecutable(candidate) {
			path = candidate
			break
		}
	}
	cmd := exec.CommandContext(ctx, path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	// What a command leaves running holds its output open, and would hold the script.
	cmd.WaitDelay = time.Second
	for _, name := range []string{"PATH", "HOME", "KUBECONFIG", "KUBECACHEDIR", "NAMESPACE", "WORK", "TERM", "TMPDIR"} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

func isExecutable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// writeAll makes the output what the script's stdout and stderr commands look at.
func writeAll(ts *testscript.TestScript, stdout, stderr string) {
	_, err := io.WriteString(ts.Stdout(), stdout)
	ts.Check(err)
	_, err = io.WriteString(ts.Stderr(), stderr)
	ts.Check(err)
}
