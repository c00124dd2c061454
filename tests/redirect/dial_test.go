package redirect_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/containernetworking/plugins/pkg/ns"
)

// dialTimeout is for connections that nobody answers.
const dialTimeout = 5 * time.Second

// target is one address to dial: network is tcp or udp.
type target struct{ Network, Addr string }

// runDialer dials what it reads from stdin and prints what each answered.
func runDialer() int {
	var targets []target
	if err := json.NewDecoder(os.Stdin).Decode(&targets); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	answers := make([]string, len(targets))
	var all sync.WaitGroup
	for i, t := range targets {
		all.Go(func() {
			answer, err := ask(t)
			if err != nil {
				answer = "error: " + err.Error()
			}
			answers[i] = answer
		})
	}
	all.Wait()
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		return 1
	}
	return 0
}

func ask(t target) (string, error) {
	c, err := net.DialTimeout(t.Network, t.Addr, dialTimeout)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(dialTimeout)); err != nil {
		return "", err
	}
	if t.Network == "udp" {
		if _, err := c.Write([]byte("?")); err != nil {
			return "", err
		}
		buf := make([]byte, 64)
		n, err := c.Read(buf)
		return string(buf[:n]), err
	}
	answer, err := io.ReadAll(c)
	return string(answer), err
}

// dial has a process of a user dial targets from a namespace.
func (w *world) dial(n ns.NetNS, uid uint32, targets []target) []string {
	w.Helper()
	stdin, err := json.Marshal(targets)
	if err != nil {
		w.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(filepath.Join(bin, dialer))
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	if err := n.Do(func(ns.NetNS) error { return cmd.Run() }); err != nil {
		w.Fatalf("dial as user %d: %v\n%s", uid, err, &stderr)
	}
	var answers []string
	if err := json.Unmarshal(stdout.Bytes(), &answers); err != nil || len(answers) != len(targets) {
		w.Fatalf("dialer printed %q: %v", &stdout, err)
	}
	return answers
}
