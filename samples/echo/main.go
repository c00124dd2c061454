// Command echo is a server that does what each request asks for: wait, fail, answer much or little. With it the samples
// show what labels do to requests, and count what arrived.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	config, err := parse(os.Args[1:], os.Stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err == nil {
		err = serve(ctx, config)
	}
	if err != nil {
		slog.Error("echo stops", "error", err)
		return 1
	}
	return 0
}

// A config is what the flags say.
type config struct {
	pod     string        // name to give in answers
	delay   time.Duration // before each answer
	status  int           // of each answer; 0 is 200
	body    string        // of each answer; empty is a line about the request
	address string        // to listen on for HTTP
}

func parse(arguments []string, usage io.Writer) (config, error) {
	var c config
	host, err := os.Hostname()
	if err != nil {
		return c, fmt.Errorf("find the name of this pod: %w", err)
	}
	status := 0
	if code := os.Getenv("RESPONSE_CODE"); code != "" {
		if status, err = strconv.Atoi(code); err != nil {
			return c, fmt.Errorf("RESPONSE_CODE=%q: expected 200 to 599", code)
		}
	}
	flags := flag.NewFlagSet("echo", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.StringVar(&c.pod, "pod", host, "name to give in answers")
	flags.DurationVar(&c.delay, "delay", 0, "wait so long before each answer that asks for no delay")
	flags.IntVar(&c.status, "status", status, "HTTP status of each answer that asks for none; the default is $RESPONSE_CODE, or 200")
	flags.StringVar(&c.body, "body", os.Getenv("RESPONSE_BODY"), "text of each answer; the default is $RESPONSE_BODY, or a line about the request")
	flags.StringVar(&c.address, "listen", ":8080", "address for HTTP/1 and HTTP/2 without TLS")
	if err := flags.Parse(arguments); err != nil {
		return c, err
	}
	if flags.NArg() > 0 {
		return c, fmt.Errorf("unknown argument %q", flags.Arg(0))
	}
	if c.status != 0 && (c.status < 200 || c.status > 599) {
		return c, fmt.Errorf("status %d: expected 200 to 599", c.status)
	}
	return c, nil
}

// serve answers until ctx ends, and then what was asked before.
func serve(ctx context.Context, c config) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", c.address)
	if err != nil {
		return fmt.Errorf("listen for HTTP: %w", err)
	}
	// A proxy holds connections that it has not used yet: whoever closes one loses the request that comes just then.
	server := &http.Server{Handler: newEcho(c), ReadHeaderTimeout: time.Hour, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	slog.Info("echo serves", "address", listener.Addr().String(), "pod", c.pod)
	stop := context.AfterFunc(ctx, func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(ending)
	})
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}
