package bootstrap_test

import (
	"maps"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/kubernetes-traffic-manager/traffic/tests/injected"
	xds "github.com/kubernetes-traffic-manager/traffic/xds/envoy"
	"github.com/kubernetes-traffic-manager/traffic/xds/label"
	"github.com/kubernetes-traffic-manager/traffic/xds/mesh"
)

var logFormat = regexp.MustCompile(`\[%START_TIME%\][^\n]*\n`)

// columns are the first eight columns of every access log in a message, which end in Envoy's flags.
func columns(t *testing.T, messages ...proto.Message) []string {
	t.Helper()
	found := map[string]bool{}
	for _, m := range messages {
		wire, err := proto.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		for _, format := range logFormat.FindAllString(string(wire), -1) {
			found[strings.Join(strings.Fields(format)[:8], " ")] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// TestAccessLogColumns: who reads the log with a program reads lines of blocked and of open ports. The bootstrap has the
// ones and the control plane the others, so nothing but this test keeps their columns the same.
func TestAccessLogColumns(t *testing.T) {
	ca, _ := certificates(t)
	var bootstrap bootstrapv3.Bootstrap
	args := injected.Pod(t, "shop", "web-0", injected.Config(18000, ca)).Spec.InitContainers[0].Args
	if err := protojson.Unmarshal([]byte(args[len(args)-1]), &bootstrap); err != nil {
		t.Fatal(err)
	}
	blocked := columns(t, &bootstrap)

	translator, err := xds.NewTranslator(xds.Config{AccessLog: xds.LogAll})
	if err != nil {
		t.Fatal(err)
	}
	var opened []proto.Message
	for _, protocol := range []label.Protocol{label.HTTP, label.TCP} {
		resources, err := translator.Port(mesh.Port{
			Owner: mesh.Object{Kind: "Service", Namespace: "shop", Name: "web"}, Number: 80, Protocol: protocol,
			Addresses: []netip.AddrPort{netip.MustParseAddrPort("10.96.0.9:80")},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range resources {
			opened = append(opened, r.Body)
		}
	}
	if got := columns(t, opened...); len(got) != 2 || !slices.Equal(got, blocked) {
		t.Errorf("lines of open ports begin\n%s\nthose of blocked ones\n%s", strings.Join(got, "\n"), strings.Join(blocked, "\n"))
	}
}
