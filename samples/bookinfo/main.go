// Command bookinfo is the sample application: the page of a book, made by four services that are all in this program.
//
//	productpage -> details
//	            -> reviews v1, v2, v3 -> ratings (v1 does without)
//
// The first argument is the role. Paths and JSON are those of the well-known Bookinfo sample. Every answer names the pod
// and the version that gave it, in the headers X-Bookinfo-Pod and X-Bookinfo-Version.
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
	"slices"
	"strings"
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
		err = listenAndServe(ctx, config)
	}
	if err != nil {
		slog.Error("bookinfo stops", "error", err)
		return 1
	}
	return 0
}

// Config says which service this process is.
type Config struct {
	Role      string
	Version   string        // of the service, for example v2
	Pod       string        // name to give in answers
	Namespace string        // for the commands that the page shows; may be empty
	Address   string        // to listen on
	Details   string        // base URLs of the other services
	Reviews   string        //
	Ratings   string        //
	Timeout   time.Duration // of a call to another service
	Drain     time.Duration // new connections are accepted for this long after SIGTERM, until no client knows this pod
}

// roles maps each role to its pages.
var roles = map[string]func(Config) http.Handler{
	"productpage": productpage,
	"details":     details,
	"reviews":     reviews,
	"ratings":     ratings,
}

func parse(arguments []string, usage io.Writer) (Config, error) {
	pod, err := os.Hostname()
	if err != nil {
		return Config{}, fmt.Errorf("find the name of this pod: %w", err)
	}
	config := Config{}
	flags := flag.NewFlagSet("bookinfo", flag.ContinueOnError)
	flags.SetOutput(usage)
	flags.Usage = func() {
		fmt.Fprintln(usage, "usage: bookinfo productpage|details|reviews|ratings [flags]")
		flags.PrintDefaults()
	}
	flags.StringVar(&config.Version, "version", "v1", "version of the service; reviews has v1, v2 and v3")
	flags.StringVar(&config.Pod, "pod", pod, "name of this pod, given in every answer")
	flags.StringVar(&config.Namespace, "namespace", "", "namespace of this pod, for the commands that the page shows")
	flags.StringVar(&config.Address, "address", ":9080", "address to listen on")
	flags.StringVar(&config.Details, "details", "http://details:9080", "URL of the details service")
	flags.StringVar(&config.Reviews, "reviews", "http://reviews:9080", "URL of the reviews service")
	flags.StringVar(&config.Ratings, "ratings", "http://ratings:9080", "URL of the ratings service")
	flags.DurationVar(&config.Timeout, "timeout", 10*time.Second, "longest wait for another service")
	flags.DurationVar(&config.Drain, "drain", 3*time.Second, "how long to accept connections after SIGTERM")
	if len(arguments) > 0 && !strings.HasPrefix(arguments[0], "-") {
		config.Role, arguments = arguments[0], arguments[1:]
	}
	if err := flags.Parse(arguments); err != nil {
		return Config{}, err
	}
	if roles[config.Role] == nil {
		return Config{}, fmt.Errorf("role %q: want productpage, details, reviews or ratings", config.Role)
	}
	if config.Role == "reviews" && !slices.Contains([]string{"v1", "v2", "v3"}, config.Version) {
		return Config{}, fmt.Errorf("-version %q: reviews has v1, v2 and v3", config.Version)
	}
	if flags.NArg() > 0 {
		return Config{}, fmt.Errorf("argument %q is not understood", flags.Arg(0))
	}
	return config, nil
}

// handler returns the service of config: its own pages, /health, and its name on every answer.
func handler(config Config) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", roles[config.Role](config))
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		name := strings.ToUpper(config.Role[:1]) + config.Role[1:]
		writeJSON(w, http.StatusOK, map[string]string{"status": name + " is healthy"})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(podHeader, config.Pod)
		w.Header().Set(versionHeader, config.Version)
		mux.ServeHTTP(w, r)
	})
}

func listenAndServe(ctx context.Context, config Config) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "tcp", config.Address)
	if err != nil {
		return err
	}
	slog.Info("bookinfo listens", "role", config.Role, "version", config.Version, "address", listener.Addr().String())
	return serve(ctx, listener, config)
}

// serve answers until ctx ends, and then for as long as clients may still choose this pod and requests are in flight.
func serve(ctx context.Context, listener net.Listener, config Config) error {
	server := &http.Server{Handler: handler(config), ReadHeaderTimeout: 10 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	server.SetKeepAlivesEnabled(false)
	time.Sleep(config.Drain)
	deadline, cancel := context.WithTimeout(context.Background(), config.Timeout)
	defer cancel()
	return server.Shutdown(deadline)
}
