package node

import (
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"
)

var requiredFlags = []string{"--node-name=n1", "--daemonset=traffic-system/traffic-node"}

// The chart relies on these defaults.
func TestFlagDefaults(t *testing.T) {
	c, err := ParseFlags(requiredFlags, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(c.Plugin, "/traffic-cni") {
		t.Errorf("plugin %s", c.Plugin)
	}
	c.Plugin = ""
	want := Config{
		NodeName: "n1", ConfDir: "/etc/cni/net.d", BinDir: "/opt/cni/bin", CacheDir: "/var/lib/cni", NetnsDir: "/run/netns",
		Backend: "auto", VerifyInterval: time.Minute, UninstallWait: 5 * time.Second, Listen: ":18001", LogLevel: slog.LevelInfo, CiliumNamespace: "kube-system",
	}
	want.DaemonSet.Namespace, want.DaemonSet.Name = "traffic-system", "traffic-node"
	if c != want {
		t.Errorf("got  %+v\nwant %+v", c, want)
	}
}

// A wrong value stops the agent at once with the flag's name.
func TestFlagsRefused(t *testing.T) {
	for flag, want := range map[string]string{
		"--node-name=":            "--node-name is required",
		"--daemonset=traffic":     "--daemonset is required, as <namespace>/<name>",
		"--daemonset=a/b/c":       "--daemonset is required",
		"--daemonset=/b":          "--daemonset is required",
		"--cni-conf-dir=net.d":    `--cni-conf-dir "net.d": must be an absolute path`,
		"--netns-dir=":            `--netns-dir ""`,
		"--plugin=":               "--plugin is required",
		"--backend=ebpf":          `--backend "ebpf": must be one of auto, nftables`,
		"--verify-interval=0s":    "--verify-interval 0s",
		"--uninstall-wait=-1s":    "--uninstall-wait -1s",
		"--uninstall-wait=5":      "uninstall-wait",
		"--log-level=loud":        "log-level",
		"--strict-status=perhaps": "strict-status",
		"--unknown":               "unknown",
		"argument":                `unexpected argument "argument"`,
	} {
		if _, err := ParseFlags(append(requiredFlags[:2:2], flag), io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", flag, err, want)
		}
	}
}
