// Command traffic-cni is the CNI plugin that redirects the outbound connections
// of injected pods to their Envoy. Container runtimes run it once per pod.
package main

import (
	"fmt"
	"os"
	"runtime/debug"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/apply"
	"github.com/kubernetes-traffic-manager/traffic/cni-plugin/plugin"
)

func main() {
	os.Exit(run())
}

func run() int {
	// Nobody else need wait for iptables in a pod, nor it for others.
	if err := os.Setenv(apply.LockVariable, apply.LockFile); err != nil {
		fmt.Fprintln(os.Stderr, "traffic-cni:", err)
		return 1
	}
	host := apply.Host{}
	p := plugin.Plugin{
		Stdout: os.Stdout, In: host.In, Resolve: host.Resolve,
		Report: func(r plugin.Report) { plugin.Send(plugin.ReportSocket, r) },
	}
	err := skel.PluginMainFuncsWithError(p.Funcs(), plugin.Versions(), about())
	if err == nil {
		return 0
	}
	if printErr := err.Print(); printErr != nil {
		fmt.Fprintln(os.Stderr, "traffic-cni:", err, printErr)
	}
	return 1
}

func about() string {
	release := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		release = info.Main.Version
	}
	return "CNI plugin traffic-cni " + release
}
