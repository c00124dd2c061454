// Command demo shows the story of the product on the local cluster, command by command, and checks what it shows.
package main

import (
	"fmt"
	"os"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/kubernetes-traffic-manager/traffic/tests/e2e"
	"github.com/kubernetes-traffic-manager/traffic/tests/e2e/terminal"
)

func main() { os.Exit(run()) }

func run() int {
	config, err := e2e.Config(".")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	config.Screen = &terminal.Screen{Out: os.Stdout, Color: os.Getenv("NO_COLOR") == "" && isTerminal(os.Stdout)}
	config.Namespace, config.Keep = "demo", true
	fmt.Print(first)
	audience := &audience{}
	audience.watch(func() { testscript.RunT(audience, config.Params("samples/bookinfo/demo.txtar")) })
	if audience.failed {
		fmt.Println("\nThe demo stopped at the first observation that was not as promised.")
		return 1
	}
	fmt.Print(next)
	return 0
}

const first = `
What follows is typed into the local cluster, and checked: one label opts a client in, labels open ports and weigh versions
under load, and a gateway brings the page outside, over https. It takes a minute or two, and begins by emptying the namespace
demo, where an earlier one may have left its pods.
`

const next = `
What to try next, in the namespace demo that this leaves behind (another make demo starts it afresh):
  export KUBECONFIG=$PWD/.local/kubeconfig PATH=$PWD/.local/bin:$PATH
  kubectl config set-context --current --namespace=demo
  kubectl label deployment client traffic.envoy.enabled=true --overwrite && kubectl rollout status deployment client
  kubectl label service reviews traffic.port.9080=http --overwrite
  kubectl exec deploy/client -c client -- curl -s http://reviews:9080/reviews/0
  kubectl label service reviews traffic.prot.9080=http                the answer to a slip of the pen
  kubectl get ingress page                                            with its ADDRESS for demo.example.com in /etc/hosts, the page
                                                                      is at https://demo.example.com/productpage in a browser
  make down                                                           stops the cluster
`

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// audience is the testscript.T of a demo: it shows why a session ended.
type audience struct{ failed bool }

// ended carries the end of a session through testscript's stack.
type ended struct{}

func (a *audience) watch(session func()) {
	defer func() {
		if cause := recover(); cause != nil && cause != (ended{}) {
			a.failed = true
			fmt.Fprintln(os.Stderr, cause)
		}
	}()
	session()
}

func (a *audience) Run(_ string, f func(testscript.T)) { a.watch(func() { f(a) }) }
func (a *audience) Parallel()                          {}
func (a *audience) Verbose() bool                      { return false }
func (a *audience) Failed() bool                       { return a.failed }
func (a *audience) Skip(args ...any)                   { a.Fatal(args...) }

func (a *audience) Log(args ...any) {
	if a.failed {
		fmt.Println(args...)
	}
}

func (a *audience) Fatal(args ...any) {
	a.failed = true
	fmt.Println(args...)
	a.FailNow()
}

func (a *audience) FailNow() {
	a.failed = true
	panic(ended{}) //nolint:forbidigo // testscript ends a session by unwinding it, as testing.T does
}
