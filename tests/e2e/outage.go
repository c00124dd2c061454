package e2e

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// restart is the script command "restart NAME": it restarts a part of the node, such as etcd, and waits until it is ready.
func (l local) restart(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: restart component")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ts.Check(l.cluster.Restart(ctx, args[0]))
}

// cut is the script command "cut PORT": from now on the pods that "aim" found get no packet from the port of others, and none
// of theirs gets there.
func (l local) cut(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: cut port")
	}
	for _, id := range aims(ts) {
		ts.Check(filter(id, fmt.Sprintf(`table inet cut {
			chain to { type filter hook output priority 0; tcp dport %[1]s drop; }
			chain from { type filter hook input priority 0; tcp sport %[1]s drop; }
		}`, args[0])))
	}
}

// heal is the script command "heal": it ends what "cut" began.
func (l local) heal(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 0 {
		ts.Fatalf("usage: heal")
	}
	for _, id := range aims(ts) {
		ts.Check(filter(id, "delete table inet cut"))
	}
}

// filter changes the packet filter in the network namespace of a container of the local cluster.
func filter(containerID, rules string) error {
	pids, err := processes(containerID)
	if err != nil {
		return err
	}
	nft := exec.Command("nsenter", fmt.Sprintf("--net=/proc/%d/ns/net", pids[0]), "nft", "-f", "-")
	nft.Stdin = strings.NewReader(rules)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// renewed is the script command "renewed POD": it waits until the kubelet has renewed the token for the control plane, and
// until nobody believes the first one any more. It prints how long that one lived.
func (l local) renewed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: renewed pod")
	}
	client, err := l.cluster.Client()
	ts.Check(err)
	pod, err := client.CoreV1().Pods(ts.Getenv("NAMESPACE")).Get(context.Background(), args[0], metav1.GetOptions{})
	ts.Check(err)
	root, err := l.cluster.Root()
	ts.Check(err)
	volumes := filepath.Join(root, "var/lib/kubelet/pods", string(pod.UID), "volumes/kubernetes.io~projected")
	first, err := controlToken(volumes)
	ts.Check(err)
	// The API server believes a token for a minute longer than it says.
	end := time.Unix(first.Expires, 0).Add(time.Minute + time.Second)
	for ; time.Now().Before(end); time.Sleep(time.Second) {
	}
	now, err := controlToken(volumes)
	ts.Check(err)
	if now.Expires == first.Expires {
		ts.Fatalf("the kubelet has not renewed the token, which ended at %s", time.Unix(first.Expires, 0))
	}
	_, err = fmt.Fprintf(ts.Stdout(), "it lived %d s\nit was renewed after %d s\n", first.Expires-first.Issued, now.Issued-first.Issued)
	ts.Check(err)
}

// A token is what its payload says.
type token struct {
	Audience []string `json:"aud"`
	Issued   int64    `json:"iat"`
	Expires  int64    `json:"exp"`
}

// controlToken reads a pod's token for the control plane from its volumes on the node.
func controlToken(volumes string) (token, error) {
	files, err := filepath.Glob(filepath.Join(volumes, "*/token"))
	if err != nil {
		return token{}, err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return token{}, err
		}
		parts := strings.Split(string(text), ".")
		if len(parts) != 3 {
			return token{}, fmt.Errorf("%s: a token has %d parts", file, len(parts))
		}
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		var t token
		if err := errors.Join(err, json.Unmarshal(payload, &t)); err != nil {
			return token{}, fmt.Errorf("%s: %w", file, err)
		}
		if slices.Contains(t.Audience, "traffic-control") {
			return t, nil
		}
	}
	return token{}, fmt.Errorf("no token for the control plane in %s", volumes)
}
