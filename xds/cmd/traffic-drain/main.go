// Command traffic-drain stands beside the ingress gateway's Envoy and does nothing until its pod is to end. Envoy is a native
// sidecar of it, which the kubelet stops once this program has ended: by then nobody waits for an answer any more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/kubernetes-traffic-manager/traffic/xds/drain"
)

func main() {
	// Until the process ends: a second signal changes nothing.
	ctx, _ := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(ctx, os.Args[1:], os.Stderr))
}

// run waits until ctx ends, and then until Envoy is drained. It returns 0 then, 1 when Envoy could not be asked, 2 when it
// was called wrongly.
func run(ctx context.Context, args []string, output io.Writer) int {
	d, err := parse(args, output)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		fmt.Fprintln(output, "traffic-drain:", err)
		return 2
	}
	if err := d.Prepare(); err != nil {
		d.Logger.Error("not prepared", "error", err)
		return 1
	}
	<-ctx.Done()
	if err := d.Run(context.WithoutCancel(ctx)); err != nil {
		d.Logger.Error("not drained", "error", err)
		return 1
	}
	return 0
}

func parse(args []string, output io.Writer) (drain.Drainer, error) {
	d := drain.Drainer{StatPrefix: "traffic-ingress", Spare: 30 * time.Second, Quiet: 20 * time.Second, Logger: slog.New(slog.NewJSONHandler(output, nil))}
	flags := flag.NewFlagSet("traffic-drain", flag.ContinueOnError)
	flags.SetOutput(output)
	flags.StringVar(&d.Socket, "admin", "/run/traffic/admin.sock", "socket of Envoy's admin interface")
	flags.StringVar(&d.Silent, "silent", "/run/traffic/silent", "file by which Envoy is told to end silent connections")
	flags.DurationVar(&d.Delay, "delay", 10*time.Second, "how long load balancers may go on making connections")
	flags.DurationVar(&d.Close, "close", 30*time.Second, "Envoy's --drain-time-s: in it, the answers end their connections")
	flags.DurationVar(&d.Timeout, "timeout", 5*time.Minute, "when to end, whatever is open; less than the pod's terminationGracePeriodSeconds")
	if err := flags.Parse(args); err != nil {
		return d, err
	}
	if flags.NArg() > 0 {
		return d, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if d.Delay < 0 || d.Close < 0 || d.Timeout <= 0 {
		return d, fmt.Errorf("--delay=%s --close=%s --timeout=%s: must not be negative, nor the timeout 0", d.Delay, d.Close, d.Timeout)
	}
	return d, nil
}
