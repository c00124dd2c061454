// Command traffic-verify is the init container that lets an injected pod start
// only when its outbound connections reach its own Envoy.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/verify"
)

func main() {
	os.Exit(run(os.Args[1:], os.Getenv, os.Stderr))
}

// run returns 0 when the pod is redirected, 1 when it is not, 2 when it was
// called wrongly.
func run(args []string, getenv func(string) string, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	flags := flag.NewFlagSet("traffic-verify", flag.ContinueOnError)
	flags.SetOutput(stderr)
	timeout := flags.Duration("timeout", 5*time.Minute, "how long to wait for a repair, once the sidecar is ready, before failing")
	readyPort := flags.Uint("ready-port", 8900, "port of the sidecar's /ready, at the pod's first address")
	terminationLog := flags.String("termination-log", "/dev/termination-log", "file that gets the reason of a failure; empty for none")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if flags.NArg() > 0 {
		fmt.Fprintf(prefixed{stderr}, "unexpected argument %q\n", flags.Arg(0))
		return 2
	}

	err := verifyPod(ctx, getenv, *timeout, *readyPort, prefixed{stderr})
	if err == nil {
		return 0
	}
	fmt.Fprintln(prefixed{stderr}, err)
	if *terminationLog != "" {
		// A plain write, since the kubelet mounts this one file.
		if err := os.WriteFile(*terminationLog, []byte(err.Error()+"\n"), 0o644); err != nil {
			fmt.Fprintln(prefixed{stderr}, err)
		}
	}
	return 1
}

func verifyPod(ctx context.Context, getenv func(string) string, timeout time.Duration, readyPort uint, out io.Writer) error {
	v := verify.Verifier{NodeID: getenv("NODE_ID"), Timeout: timeout, Out: out}
	if v.NodeID == "" {
		return errors.New("environment variable NODE_ID is empty; it must be <pod>.<namespace>")
	}
	if timeout <= 0 {
		return fmt.Errorf("timeout %s: must be more than 0", timeout)
	}
	if readyPort == 0 || readyPort > math.MaxUint16 {
		return fmt.Errorf("ready port %d: must be from 1 to %d", readyPort, math.MaxUint16)
	}
	var err error
	if v.Ready, err = verify.ReadyAddr(getenv("POD_IPS"), uint16(readyPort)); err != nil {
		return fmt.Errorf("environment variable POD_IPS: %w", err)
	}
	if v.Targets, err = verify.Targets(getenv("POD_IPS")); err != nil {
		return fmt.Errorf("environment variable POD_IPS: %w", err)
	}
	return v.Run(ctx)
}

// prefixed puts the program's name before each line.
type prefixed struct{ w io.Writer }

func (p prefixed) Write(b []byte) (int, error) {
	_, err := fmt.Fprintf(p.w, "traffic-verify: %s", b)
	return len(b), err
}
